"""From probability to mask on images of several raters: thresholds against the best expected Dice, all images counted.

    python benchmarks/decision_on_raters.py OUT --lidc lidc2d.npz [--phantoms]

Patients are split into training, validation and test. A small 2D U-Net is trained for each loss and seed; its weights are kept in OUT,
so that a run that was interrupted goes on. Levels are chosen on the validation patients, and scores are of the test patients: the mean
Dice over all images with the majority, and with each rater. Two empty masks score 1. Intervals are bootstrapped over patients.

`lidc2d.npz` holds slices of LIDC-IDRI (CC BY 3.0; Armato et al., 2011, DOI 10.1118/1.3528204; TCIA, DOI 10.7937/K9/TCIA.2015.LO9QL9SX):
`images (N, 64, 64)` uint8, `masks (N, 4, 64, 8)` of four readers, packed by numpy.packbits along the last axis, and `patient (N,)`.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.networks.nets import UNet
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import lidc_arrays
from benchmarks.rater_training import LOSSES, drawn_batches, label_of, majority_of
from benchmarks.rater_training import train as train_on
from monai_jdt.data import split_cases
from monai_jdt.data.files.atomic import whole_file
from monai_jdt.data.phantoms.brats import brats_phantom
from monai_jdt.data.phantoms.raters import DEFAULT_STYLES
from monai_jdt.functional.expected_overlap import best_empty_level, best_expected_mask
from monai_jdt.functional.temperature import fit_temperature
from monai_jdt.report.intervals import clustered_interval

SEEDS = (0, 1, 2)
#: Patients for the test, and of the others for the validation.
TEST, VALIDATION = 0.25, 0.25
BATCH = 32
THRESHOLDS = torch.arange(1, 50) / 50


#: What the other decisions are compared with.
BASELINES = {"half": "threshold .5", "validated": "validated threshold"}


@dataclass(frozen=True)
class Slices:
    """Images `(N, C, H, W)` in [0, 1], what the raters marked `(N, R, H, W)`, bool, and the patient of each image."""

    images: torch.Tensor
    votes: torch.Tensor
    patients: tuple[str, ...]

    def part(self, rows: list[int]) -> Slices:
        return Slices(self.images[rows], self.votes[rows], tuple(self.patients[row] for row in rows))

    def majority(self) -> torch.Tensor:
        return majority_of(self.votes)


def lidc_slices(path: str) -> Slices:
    cases = lidc_arrays.lidc_slices(path)
    images, votes = (np.stack([getattr(case, part) for case in cases]) for part in ("image", "votes"))
    return Slices(torch.from_numpy(images).float()[:, None] / 255, torch.from_numpy(votes), tuple(case.patient for case in cases))


def phantom_slices(cases: int = 40, size: int = 48, step: int = 3) -> Slices:
    """Return slices of phantoms, and what five raters mark as enhancing tumour."""
    styles = [replace(style, presence=1.0) for style in DEFAULT_STYLES if style.name != "often absent"]
    images, votes, patients = [], [], []
    for case in tqdm(range(cases), desc="phantoms", disable=None):
        made = brats_phantom(case, shape=(size,) * 3, styles=styles)
        volume = torch.from_numpy(made.image).movedim(-1, 0)[::step]
        raters = torch.stack([torch.from_numpy(labels == 4) for labels in made.raters.values()]).movedim(-1, 0)[::step]
        images.append(volume / volume.amax())
        votes.append(raters)
        patients += [f"phantom{case}"] * len(volume)
    return Slices(torch.cat(images).float(), torch.cat(votes), tuple(patients))


def split(data: Slices) -> tuple[Slices, Slices, Slices]:
    items = [{"case": patient, "row": row} for row, patient in enumerate(data.patients)]
    rest, test = split_cases(items, TEST)
    train, validation = split_cases(rest, VALIDATION, seed=1)
    first, second, third = (data.part([item["row"] for item in part]) for part in (train, validation, test))
    return first, second, third


def network_of(channels: int) -> UNet:
    return UNet(2, channels, 1, (16, 32, 64, 128), (2, 2, 2), norm="batch")


def train(data: Slices, name: str, seed: int, steps: int) -> UNet:
    make, kind = LOSSES[name]
    torch.manual_seed(seed)
    network = network_of(data.images.shape[1])
    train_on(network, make(), batches_of(data, label_of(data.votes, kind)), steps, f"{name}, seed {seed}")
    return network


def batches_of(data: Slices, label: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield batches of images and labels without an end, flipped at random."""
    for rows in drawn_batches(len(label), BATCH):
        flips = [axis for axis in (2, 3) if torch.rand(()) < 0.5]
        yield data.images[rows].flip(flips), label[rows].flip(flips)


def trained(data: Slices, name: str, seed: int, steps: int, path: Path) -> UNet:
    """Return the network whose weights lie at `path`, where there are none yet, after training."""
    if not path.exists():
        start = time.process_time()
        state = train(data, name, seed, steps).state_dict()
        with whole_file(path) as draft:
            torch.save(state, draft)
        print(f"{path.name}: {time.process_time() - start:.0f} s of CPU time", flush=True)
    network = network_of(data.images.shape[1])
    network.load_state_dict(torch.load(path, weights_only=True))
    return network.eval()


def logits_of(network: UNet, images: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return torch.cat([network(part) for part in images.split(256)])


def dice(mask: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the Dice of masks `(N, 1, H, W)` with each of K labels `(N, K, H, W)`; two empty masks score 1."""
    mask, labels = mask.flatten(2).float(), labels.flatten(2).float()
    sizes = mask.sum(-1) + labels.sum(-1)
    return torch.where(sizes > 0, 2 * (mask * labels).sum(-1) / sizes.clamp(min=1), 1.0)


def labels_of(data: Slices, target: str) -> torch.Tensor:
    return data.majority() if target == "majority" else data.votes


def best_level(expected: torch.Tensor, mask: torch.Tensor, labels: torch.Tensor) -> tuple[float, float]:
    """Return the level of "nothing is there", and the mean Dice with it over all pairs of an image `(N,)` and a label `(N, K)`."""
    pairs = dice(mask, labels)
    return best_empty_level(expected[:, None].expand_as(pairs).flatten(), pairs.flatten(), ~labels.flatten(2).any(-1).flatten())


def confidence(prob: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return `(N,)`: the expected Dice of masks in its simplest form, 2 sum of p inside / (voxels inside + sum of p)."""
    inside = mask.flatten(1)
    return 2 * (prob.flatten(1) * inside).sum(1) / (inside.sum(1) + prob.flatten(1).sum(1))


def with_level(mask: torch.Tensor, expected: torch.Tensor, level: float) -> torch.Tensor:
    return mask & (expected >= level).reshape(-1, 1, 1, 1)


def best_threshold(prob: torch.Tensor, labels: torch.Tensor) -> float:
    return float(max(THRESHOLDS, key=lambda t: float(dice(prob > t, labels).mean())))


def best_threshold_and_level(prob: torch.Tensor, labels: torch.Tensor) -> tuple[float, float]:
    found = []
    for threshold in THRESHOLDS[::2].tolist():
        mask = prob > threshold
        level, score = best_level(confidence(prob, mask), mask, labels)
        found.append((score, threshold, level))
    return max(found)[1:]


def decided(logits: tuple[torch.Tensor, torch.Tensor], data: tuple[Slices, Slices]) -> Iterator[tuple[str, str, str, torch.Tensor]]:
    """Yield target, decision, its levels, and `(images,)`, the Dice of the test images; first of the pairs is the validation."""
    tuned, p = (part.sigmoid() for part in logits)
    best = [best_expected_mask(part) for part in (tuned, p)]
    temperature = fit_temperature(logits[0], data[0].votes.float().mean(1, keepdim=True))
    scaled = [best_expected_mask((part / temperature).sigmoid()) for part in logits]
    for target in ("majority", "raters"):
        known, truth = (labels_of(part, target) for part in data)
        threshold = best_threshold(tuned, known)
        both = best_threshold_and_level(tuned, known)
        level = best_level(best[0][1][:, 0], best[0][0], known)[0]
        cut = p > both[0]
        scaled_level = best_level(scaled[0][1][:, 0], scaled[0][0], known)[0]
        (mask, expected), (scaled_mask, scaled_expected) = best[1], scaled[1]
        for decision, levels, decided_mask in (
            ("threshold .5", "", p > 0.5),
            ("validated threshold", f"{threshold:.2f}", p > threshold),
            ("validated threshold, level for nothing", f"{both[0]:.2f}, {both[1]:.2f}", with_level(cut, confidence(p, cut), both[1])),
            ("expected Dice", "", mask),
            ("expected Dice, level for nothing", f"{level:.2f}", with_level(mask, expected[:, 0], level)),
            (
                "temperature, expected Dice, level for nothing",
                f"{temperature:.2f}, {scaled_level:.2f}",
                with_level(scaled_mask, scaled_expected[:, 0], scaled_level),
            ),
        ):
            yield target, decision, levels, dice(decided_mask, truth).mean(1)


def rows_of(name: str, data: Slices, out: Path, steps: int, losses: list[str]) -> Iterator[dict[str, Any]]:
    """Train, decide, and yield a row for each loss, seed, target and decision; seed "mean": the images' means over seeds."""
    training, validation, test = split(data)
    shares = ", ".join(
        f"{len(part.patients)} images of {len(set(part.patients))} patients, "
        f"{float((~part.majority().flatten(1).any(1)).float().mean()):.0%} with an empty majority"
        for part in (training, validation, test)
    )
    print(f"{name}: {shares}", flush=True)
    for loss in losses:
        seeds: list[dict[tuple[str, str], torch.Tensor]] = []
        for seed in SEEDS:
            file = "".join(letter if letter.isalnum() else "_" for letter in f"{name} {loss} {seed}") + ".pt"
            network = trained(training, loss, seed, steps, out / file)
            logits = (logits_of(network, validation.images), logits_of(network, test.images))
            found = list(decided(logits, (validation, test)))
            seeds.append({(target, decision): scores for target, decision, _, scores in found})
            for target, decision, levels, _ in found:
                yield row_of((name, loss, str(seed), target, decision, levels), seeds[-1], test.patients)
        means = {key: torch.stack([scores[key] for scores in seeds]).mean(0) for key in seeds[0]}
        for target, decision in means:
            yield row_of((name, loss, "mean", target, decision, ""), means, test.patients)


def row_of(about: tuple[str, ...], scores: dict[tuple[str, str], torch.Tensor], patients: tuple[str, ...]) -> dict[str, Any]:
    """Return the mean Dice, and what is gained over the two threshold decisions on the same images, with intervals."""
    row: dict[str, Any] = dict(zip(("data", "loss", "seed", "target", "decision", "levels"), about, strict=True))
    target, decision = about[3:5]
    own = scores[target, decision]
    gains = {f"gain_over_{word}": own - scores[target, other] for word, other in BASELINES.items()}
    for column, values in {"dice": own, **gains}.items():
        for end, value in zip(("", "_low", "_high"), clustered_interval(values.tolist(), patients), strict=True):
            row[column + end] = f"{value:.4f}"
    return row


def main() -> None:
    """Write the table, and print its rows over seeds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder of the weights, and of decision_on_raters.csv")
    parser.add_argument("--lidc", help="path of lidc2d.npz")
    parser.add_argument("--phantoms", action="store_true", help="phantoms of this package, too")
    parser.add_argument("--steps", type=int, default=1000, help="steps of each training on LIDC; phantoms take a third")
    parser.add_argument("--only", help=f"losses, separated by ';', of {'; '.join(LOSSES)}")
    arguments = parser.parse_args()
    losses = arguments.only.split(";") if arguments.only else list(LOSSES)
    torch.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    if arguments.phantoms:
        rows += rows_of("phantoms", phantom_slices(), arguments.out, arguments.steps // 3, losses)
    if arguments.lidc:
        rows += rows_of("LIDC", lidc_slices(arguments.lidc), arguments.out, arguments.steps, losses)
    if not rows:
        parser.error("--lidc, --phantoms: expected at least one, got none")
    with whole_file(arguments.out / "decision_on_raters.csv") as draft, open(draft, "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    print(
        "| data | loss | target | decision | Dice | gain over .5 | gain over the validated threshold |\n|---|---|---|---|---|---|---|"
    )
    for row in rows:
        if row["seed"] == "mean":
            parts = [f"{row[c]} [{row[c + '_low']}, {row[c + '_high']}]" for c in ("dice", "gain_over_half", "gain_over_validated")]
            print(f"| {row['data']} | {row['loss']} | {row['target']} | {row['decision']} | {' | '.join(parts)} |")


if __name__ == "__main__":
    main()
