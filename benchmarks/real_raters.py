"""Which loss suits images of several raters? Three losses, three seeds, two sets of LIDC-IDRI, patients held back for the test.

    python benchmarks/real_raters.py OUT --data FOLDER [--sets 2d,3d] [--seeds 0,1,2]
    python benchmarks/real_raters_results.py OUT --data FOLDER

FOLDER holds `lidc2d.npz` and `lidc3d.npz` (benchmarks/lidc_arrays.py says what is in them). A run is one set, loss and seed. Its
weights, its scores of each test case and its course on the validation patients are written to OUT when it is done, and a run that is
there is not repeated: an interrupted study goes on. A run of other settings, of another loss or of other images is refused. The second
command makes the tables and pictures of docs/real_raters.md.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.metrics import compute_dice
from monai.networks.nets import UNet
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.lidc_arrays import RatedArray, lidc_slices, lidc_volumes, parts_of
from benchmarks.rater_training import LOSSES, RATE, Losses, drawn_batches, label_of, majority_of, train
from monai_jdt.data.files.atomic import whole_file
from monai_jdt.functional.expected_overlap import best_empty_level, best_expected_mask
from monai_jdt.metrics import RaterBrierScore, RaterCalibrationError, ThresholdedDice
from monai_jdt.validation import error_sentence

SEEDS = (0, 1, 2)
#: One of them is chosen on the validation patients.
THRESHOLDS = tuple(step / 20 for step in range(1, 20))
#: How often a training is looked at, and on how many validation images at most.
LOOKS, LOOKED_AT = 5, 150
#: Images that are read at once after the training.
AT_ONCE = 128


@dataclass(frozen=True)
class StudySet:
    """What is fixed for one set of images before any result.

    Args:
        read: from the folder to cases.
        crop: of a training image; the axes of a smaller image are continued by its mirror image.
        channels: of the U-Net's levels.
        strides: between them.
        norm: of the U-Net. Instance norm in 3D, as means over a batch of four volumes are noisy: in trials, the baseline had a
            validation thresholded Dice of .66 with batch norm after 600 steps, and .76 with instance norm after 1,200.
        steps: of the optimizer.
        batch: images.
        unit: of a volume.
    """

    read: Callable[[Path], list[RatedArray]]
    crop: tuple[int, ...]
    channels: tuple[int, ...]
    strides: tuple[tuple[int, ...], ...]
    norm: str
    steps: int
    batch: int
    unit: str

    def network(self) -> UNet:
        strides: Any = self.strides  # MONAI takes a stride per axis, too; its annotation has whole numbers only
        return UNet(len(self.crop), 1, 1, self.channels, strides, norm=self.norm)

    def multiples(self) -> tuple[int, ...]:
        """Return what the U-Net can divide the axes by."""
        return tuple(int(np.prod([stride[axis] for stride in self.strides])) for axis in range(len(self.crop)))

    def settings(self) -> dict[str, Any]:
        """Return what a run depends on, as JSON has it."""
        return json.loads(json.dumps({key: value for key, value in asdict(self).items() if key != "read"}))


SETS = {
    "2d": StudySet(
        read=lambda folder: lidc_slices(folder / "lidc2d.npz", step=4),
        crop=(64, 64),
        channels=(16, 32, 64, 128),
        strides=((2, 2), (2, 2), (2, 2)),
        norm="batch",
        steps=500,
        batch=16,
        unit="pixels",
    ),
    "3d": StudySet(
        read=lambda folder: lidc_volumes(folder / "lidc3d.npz"),
        crop=(16, 48, 48),
        channels=(8, 16, 32, 64),
        strides=((1, 2, 2), (2, 2, 2), (2, 2, 2)),
        norm="instance",
        steps=600,
        batch=4,
        unit="mm3",
    ),
}


def described(parts: dict[str, list[RatedArray]]) -> str:
    """Return the size of each part, and how many of its images have no majority."""
    texts = []
    for part, cases in parts.items():
        empty = sum(not majority_of(torch.from_numpy(case.votes)[None]).any() for case in cases)
        texts.append(f"{part} {len(cases)} images of {len({case.patient for case in cases})} patients ({empty} with an empty majority)")
    return ", ".join(texts)


def mirrored(image: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Continue the last axes by the mirror image, on both sides alike, where they are shorter than `shape`."""
    missing = [max(size - there, 0) for size, there in zip(shape, image.shape[-len(shape) :], strict=True)]
    first = [(0, 0)] * (image.ndim - len(shape))
    return np.pad(image, first + [(size // 2, size - size // 2) for size in missing], mode="symmetric")


def training_batches(cases: Sequence[RatedArray], kind: str, study: StudySet) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield crops and labels without an end, at random places and flipped at random."""
    images = [torch.from_numpy(mirrored(case.image, study.crop)).float()[None] / 255 for case in cases]
    labels = [label_of(torch.from_numpy(mirrored(case.votes, study.crop))[None], kind)[0] for case in cases]
    for rows in drawn_batches(len(cases), study.batch):
        pairs = [random_crop((images[row], labels[row]), study.crop) for row in rows.tolist()]
        image, label = (torch.stack(part) for part in zip(*pairs, strict=True))
        flips = [axis for axis in range(2, image.ndim) if torch.rand(()) < 0.5]
        yield image.flip(flips), label.flip(flips)


def random_crop(pair: tuple[torch.Tensor, torch.Tensor], crop: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    room = [there - size for size, there in zip(crop, pair[0].shape[1:], strict=True)]
    starts = [int(torch.randint(free + 1, ())) for free in room]
    window = (slice(None), *(slice(start, start + size) for start, size in zip(starts, crop, strict=True)))
    return pair[0][window], pair[1][window]


def probabilities(network: torch.nn.Module, cases: Sequence[RatedArray], multiples: Sequence[int]) -> list[torch.Tensor]:
    """Return the probability of each whole image, `(1, *S)`."""
    found: list[torch.Tensor] = []
    network.eval()
    for shape, alike in groupby(cases, key=lambda case: case.image.shape):
        padded = [-(-size // multiple) * multiple for size, multiple in zip(shape, multiples, strict=True)]
        window = (..., *(slice((size - own) // 2, (size - own) // 2 + own) for size, own in zip(padded, shape, strict=True)))
        stack = torch.from_numpy(np.stack([mirrored(case.image, padded) for case in alike])).float()[:, None] / 255
        with torch.no_grad():
            for images in stack.split(AT_ONCE):
                found += list(network(images).sigmoid()[window])
    return found


def votes_of(case: RatedArray) -> torch.Tensor:
    return torch.from_numpy(case.votes)[None]


def majority_dice(masks: torch.Tensor, votes: torch.Tensor) -> torch.Tensor:
    """Return MONAI's Dice of bool masks `(N, 1, *S)` with the majority of one case's votes; two empty masks score 1."""
    label = majority_of(votes).expand(len(masks), *[-1] * (masks.ndim - 1))
    return compute_dice(masks.float(), label.float(), ignore_empty=False)[:, 0].double()


@dataclass(frozen=True)
class Decisions:
    """What is chosen on the validation patients: a threshold, and the expected Dice below which nothing is marked."""

    threshold: float
    level: float

    def masks(self, prob: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the mask of each decision for one image `(1, *S)`."""
        mask, expected = best_expected_mask(prob[None])
        return {
            "half": prob > 0.5,
            "validated": prob > self.threshold,
            "expected": mask[0],
            "expected_level": mask[0] & bool(expected[0, 0] >= self.level),
        }


def chosen(probs: Sequence[torch.Tensor], cases: Sequence[RatedArray]) -> Decisions:
    """Choose the decisions that have the best mean Dice with the majority."""
    by_threshold, expected, overlap, empty = [], [], [], []
    for prob, case in zip(probs, cases, strict=True):
        votes = votes_of(case)
        by_threshold.append(majority_dice(torch.stack([prob > threshold for threshold in THRESHOLDS]), votes))
        mask, score = best_expected_mask(prob[None])
        expected.append(float(score))
        overlap.append(float(majority_dice(mask, votes)))
        empty.append(not majority_of(votes).any())
    threshold = THRESHOLDS[int(torch.stack(by_threshold).mean(0).argmax())]
    level, _ = best_empty_level(torch.tensor(expected), torch.tensor(overlap), torch.tensor(empty))
    return Decisions(threshold, level)


def scores(prob: torch.Tensor, case: RatedArray, decisions: Decisions) -> dict[str, float]:
    """Return the scores of one image: against the readers, with their majority, and the volumes in the set's unit."""
    votes = votes_of(case)
    of_masks = {f"dice_{name}": float(majority_dice(mask[None], votes)) for name, mask in decisions.masks(prob).items()}
    return rater_scores(prob, case) | of_masks


def rater_scores(prob: torch.Tensor, case: RatedArray) -> dict[str, float]:
    """Return the scores of one image against the readers, and the volumes in the set's unit."""
    votes = votes_of(case)
    voxel = float(np.prod(case.spacing)) if case.spacing else 1.0
    return {
        "readers_volume": float(votes.sum()) / votes.shape[1] * voxel,
        "volume": float(prob.double().sum()) * voxel,
        "thresholded_dice": float(ThresholdedDice(votes=True)(prob[None], votes.byte())),
        "brier": float(RaterBrierScore()(prob[None], votes.byte())),
        "spread": float(RaterBrierScore(part="spread")(prob[None], votes.byte())),
        "ece": float(RaterCalibrationError(level="image")(prob[None], votes.byte())),
        "majority_empty": float(not majority_of(votes).any()),
    }


def calibration_bins(probs: Sequence[torch.Tensor], cases: Sequence[RatedArray]) -> np.ndarray:
    """Return the bins of each case, `(cases, bins, 3)`: voxels, summed probabilities, summed shares of readers."""
    metric = RaterCalibrationError()
    return np.stack([metric(prob[None], votes_of(case).byte())[0, 0].numpy() for prob, case in zip(probs, cases, strict=True)])


def look(network: torch.nn.Module, cases: Sequence[RatedArray], study: StudySet) -> dict[str, float]:
    """Return how a network does on images of the validation patients, evenly chosen: means over them."""
    cases = cases[:: -(-len(cases) // LOOKED_AT)]
    probs = probabilities(network, cases, study.multiples())
    pairs = [(prob, votes_of(case)) for prob, case in zip(probs, cases, strict=True)]
    return {
        "thresholded_dice": float(np.mean([float(ThresholdedDice(votes=True)(p[None], v.byte())) for p, v in pairs])),
        "brier": float(np.mean([float(((p[None] - v.float()) ** 2).mean()) for p, v in pairs])),
        "dice_half": float(np.mean([float(majority_dice(p[None] > 0.5, v)) for p, v in pairs])),
    }


def digest_of_images(parts: dict[str, list[RatedArray]]) -> str:
    """Return a text that changes with the images, the votes and who is in which part."""
    digest = hashlib.sha256()
    for part, cases in parts.items():
        for case in cases:
            digest.update(repr((part, case.name, case.patient, case.spacing, case.image.shape, case.votes.shape)).encode())
            digest.update(np.ascontiguousarray(case.image).tobytes())
            digest.update(np.ascontiguousarray(case.votes).tobytes())
    return digest.hexdigest()[:16]


def digest_of_loss(loss: torch.nn.Module, kind: str) -> str:
    """Return a text that changes with the loss, its arguments, and the label that it is given."""
    plain = [
        (path, type(module).__name__, key, repr(value))
        for path, module in loss.named_modules()
        for key, value in sorted(vars(module).items())
        if isinstance(value, bool | int | float | str | tuple | None) or is_dataclass(value)
    ]
    return hashlib.sha256(repr((kind, plain)).encode()).hexdigest()[:16]


def run_name(name: str, loss: str, seed: int) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in f"{name} {loss} {seed}")


def run(
    out: Path,
    name: str,
    study: StudySet,
    parts: dict[str, list[RatedArray]],
    loss: str,
    seed: int,
    images: str = "",
    losses: Losses = LOSSES,
) -> None:
    """Train and score one network, unless that is done. The record of the run is written last.

    Args:
        out: the folder of the runs.
        name: of the set.
        study: the set's settings.
        parts: the cases that are trained on, validated and tested.
        loss: its name in `losses`.
        seed: of every draw.
        images: :func:`digest_of_images` of the parts; empty: it is computed.
        losses: what a loss is called, how it is made, and the label that it is given.

    Raises:
        ValueError: if the run that is there has other settings, another loss or other images.
    """
    start, place = time.process_time(), out / run_name(name, loss, seed)
    make, kind = losses[loss]
    given = {"rate": RATE, "loss": digest_of_loss(make(), kind), "images": images or digest_of_images(parts)}
    about = {"set": name, "loss": loss, "seed": seed, "settings": study.settings() | given}
    if place.with_suffix(".json").exists():
        settings = json.loads(place.with_suffix(".json").read_text())["settings"]
        if settings != about["settings"]:
            fix = "name another folder"
            raise ValueError(error_sentence(f"{place}.json", f"the settings {about['settings']}", str(settings), fix))
        return
    torch.manual_seed(seed)
    network = study.network()
    course: list[dict[str, float]] = []

    def watch(step: int) -> None:
        if step % max(study.steps // LOOKS, 1) == 0:
            course.append({"step": step, **look(network, parts["validation"], study)})

    train(network, make(), training_batches(parts["training"], kind, study), study.steps, f"{name}, {loss}, seed {seed}", watch)
    trained = time.process_time() - start
    decisions = chosen(probabilities(network, parts["validation"], study.multiples()), parts["validation"])
    probs, test = probabilities(network, parts["test"], study.multiples()), parts["test"]
    rows = [
        {"set": name, "loss": loss, "seed": seed, "case": case.name, "patient": case.patient, **scores(prob, case, decisions)}
        for prob, case in zip(probs, test, strict=True)
    ]
    with whole_file(place.with_suffix(".pt")) as draft:
        torch.save(network.state_dict(), draft)
    with whole_file(place.with_suffix(".npy")) as draft:
        np.save(draft, calibration_bins(probs, test))
    write_rows(place.with_suffix(".csv"), rows)
    record = {**about, "decisions": asdict(decisions), "course": course, "seconds": [trained, time.process_time() - start]}
    with whole_file(place.with_suffix(".json")) as draft:
        Path(draft).write_text(json.dumps(record, indent=2) + "\n")


def write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write a table as CSV, numbers with five digits."""
    with whole_file(path) as draft, open(draft, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows({key: f"{value:.5g}" if isinstance(value, float) else value for key, value in row.items()} for row in rows)


def study(out: Path, folder: Path, sets: Sequence[str], seeds: Sequence[int] = SEEDS) -> None:
    """Do every run that is not done, all losses of a seed before the next seed."""
    out.mkdir(parents=True, exist_ok=True)
    parts = {name: parts_of(SETS[name].read(folder)) for name in sets}
    for name in sets:
        print(f"{name}: {described(parts[name])}", flush=True)
    images = {name: digest_of_images(parts[name]) for name in sets}
    runs = [(seed, name, loss) for seed in seeds for name in sets for loss in LOSSES]
    for seed, name, loss in tqdm(runs, desc="runs", disable=None):
        run(out, name, SETS[name], parts[name], loss, seed, images[name])


def main() -> None:
    """Do the runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder of the runs")
    parser.add_argument("--data", type=Path, required=True, help="folder of lidc2d.npz and lidc3d.npz")
    parser.add_argument("--sets", default=",".join(SETS), help="which, separated by commas")
    parser.add_argument("--seeds", default=",".join(map(str, SEEDS)), help="which, separated by commas")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    study(arguments.out, arguments.data, arguments.sets.split(","), [int(seed) for seed in arguments.seeds.split(",")])


if __name__ == "__main__":
    main()
