"""Overlap and calibration of 20 volumes, against MONAI's metrics and torchmetrics, as ratios of one run; and growth with raters.

    python benchmarks/metrics.py [--side 128] [--volumes 20] [--rounds 3] [--threads 1]

Needs torchmetrics (PyPI), which is no dependency of the package. The contenders take turns, and each gets the form that it takes:
one-hot masks, or class indices. Making the data is not measured. Four different volumes of 4 classes are read again and again.
Before, all contenders that measure the same have to give the same score for one volume, but for torchmetrics' ECE: it adds confidences
one by one in float32, and is off by more, the more voxels there are. Memory is the highest resident memory above what the process had
before the first volume was scored. Times are medians over rounds, of the CPU, so that other work on the machine counts little.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from monai.metrics import CalibrationErrorMetric, MeanIoU
from tqdm import tqdm

from monai_jdt.metrics import (
    FineGrainedOverlap,
    GeneralizedEnergyDistance,
    RaterBrierScore,
    RaterCalibrationError,
    RaterDice,
    RaterNLL,
    SoftDice,
)

CLASSES, BINS, DIFFERENT = 4, 15, 4


@dataclass(frozen=True)
class Volume:
    """A prediction and a label of one case: probabilities, one-hot masks, class indices."""

    prob: torch.Tensor
    mask: torch.Tensor
    label: torch.Tensor
    found: torch.Tensor
    index: torch.Tensor
    hard_mask: torch.Tensor
    hard_label: torch.Tensor


def volume(seed: int, side: int) -> Volume:
    """Make blobs of classes, and a prediction that is often right."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(1, CLASSES, *(max(side // 16, 2),) * 3, generator=generator)
    fields = torch.nn.functional.interpolate(coarse, size=(side,) * 3, mode="trilinear")
    index = fields.argmax(1)
    prob = (6 * fields + torch.randn(fields.shape, generator=generator)).softmax(1)
    found = prob.argmax(1)
    mask, label = (torch.nn.functional.one_hot(i, CLASSES).movedim(-1, 1).float().contiguous() for i in (found, index))
    return Volume(prob, mask, label, found, index, mask.bool(), label.bool())


def ours(metric: Any, *forms: str) -> tuple[Callable[[Volume], Any], Callable[[], float]]:
    def update(case: Volume) -> None:
        inputs = {"votes": case.index.to(torch.uint8)[:, None]} if "votes" in forms else {}
        metric(*(inputs.get(form, getattr(case, form, None)) for form in forms))

    return update, lambda: float(metric.aggregate())


def theirs(metric: Any, *forms: str) -> tuple[Callable[[Volume], Any], Callable[[], float]]:
    def compute() -> float:
        found = metric.compute() if hasattr(metric, "compute") else metric.aggregate()
        return float(found[0] if isinstance(found, list | tuple) else found)

    feed = metric.update if hasattr(metric, "update") else metric
    return lambda case: feed(*(getattr(case, form) for form in forms)), compute


def contenders() -> dict[str, Callable[[], tuple[Callable[[Volume], Any], Callable[[], float]]]]:
    """Return by name what makes a contender: how it takes a volume, and its score at the end. The first of each kind is ours."""
    from torchmetrics.classification import MulticlassCalibrationError, MulticlassJaccardIndex
    from torchmetrics.segmentation import MeanIoU as TorchMeanIoU

    return {
        "IoU of images: ours": lambda: ours(FineGrainedOverlap(average="image"), "mask", "label"),
        "IoU of images: ours, argmax": lambda: ours(FineGrainedOverlap(average="image", discretize="argmax"), "prob", "label"),
        "IoU of images: MONAI MeanIoU": lambda: theirs(MeanIoU(), "mask", "label"),
        "IoU of images: torchmetrics MeanIoU": lambda: theirs(TorchMeanIoU(CLASSES, input_format="index"), "found", "index"),
        "IoU of the data set: ours": lambda: ours(FineGrainedOverlap(average="dataset"), "mask", "label"),
        "IoU of the data set: ours, bool masks": lambda: ours(FineGrainedOverlap(average="dataset"), "hard_mask", "hard_label"),
        "IoU of the data set: torchmetrics": lambda: theirs(MulticlassJaccardIndex(CLASSES), "found", "index"),
        "IoU of the data set: torchmetrics, unchecked": lambda: theirs(
            MulticlassJaccardIndex(CLASSES, validate_args=False), "found", "index"
        ),
        "ECE of images and classes: ours": lambda: ours(
            RaterCalibrationError(level="image", classwise=True, bins=BINS), "prob", "votes"
        ),
        "ECE of images and classes: MONAI": lambda: theirs(CalibrationErrorMetric(num_bins=BINS), "prob", "label"),
        "ECE of the data set: ours": lambda: ours(RaterCalibrationError(bins=BINS), "prob", "votes"),
        "ECE of the data set: torchmetrics": lambda: theirs(MulticlassCalibrationError(CLASSES, n_bins=BINS), "prob", "index"),
        "ECE of the data set: torchmetrics, unchecked": lambda: theirs(
            MulticlassCalibrationError(CLASSES, n_bins=BINS, validate_args=False), "prob", "index"
        ),
    }


def measure(
    make: Callable[[], tuple[Callable[[Volume], Any], Callable[[], float]]], cases: list[Volume], volumes: int
) -> dict[str, float]:
    """Return seconds, peak memory, and the score."""
    update, score = make()
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    with open("/proc/self/clear_refs", "w") as refs:
        refs.write("5")
    before, start = memory("VmRSS"), time.process_time()
    for number in range(volumes):
        update(cases[number % len(cases)])
    value = score()
    return {"cpu_s": time.process_time() - start, "peak_mib": (memory("VmHWM") - before) / 2**20, "score": value}


def memory(name: str) -> int:
    with open("/proc/self/status") as lines:
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith(name + ":"))


def growth(side: int) -> None:
    """Print the time of a volume against the number of raters."""
    case = volume(0, side)
    # one prediction and 8 samples of it
    samples = case.mask[:, None].expand(-1, 8, -1, -1, -1, -1).bool()
    metrics: dict[str, tuple[Any, torch.Tensor]] = {
        "RaterCalibrationError": (RaterCalibrationError(), case.prob),
        "RaterBrierScore": (RaterBrierScore(), case.prob),
        "RaterNLL": (RaterNLL(), case.prob),
        "SoftDice": (SoftDice(votes=True), case.prob),
        "RaterDice, one prediction": (RaterDice(), case.mask),
        "GeneralizedEnergyDistance, 8 samples": (GeneralizedEnergyDistance(), samples),
    }
    counts = (2, 4, 8, 16)
    print(f"\n| ms of a volume of {side}^3 by raters | {' | '.join(map(str, counts))} | each further rater, ms |")
    print(f"|---|{'---|' * (len(counts) + 1)}")
    for name, (metric, prediction) in metrics.items():
        times = []
        for raters in counts:
            votes = torch.stack([case.index.roll(shift, -1) for shift in range(raters)], 1).to(torch.uint8)
            metric(prediction, votes)
            found = []
            for _ in range(3):
                start = time.process_time()
                metric(prediction, votes)
                found.append(time.process_time() - start)
            times.append(1e3 * statistics.median(found))
        steps = [(times[k + 1] - times[k]) / (counts[k + 1] - counts[k]) for k in range(len(counts) - 1)]
        print(f"| {name} | {' | '.join(f'{t:.0f}' for t in times)} | {', '.join(f'{step:.1f}' for step in steps)} |", flush=True)


def main() -> None:
    """Check, measure, and print tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("side", 128), ("volumes", 20), ("rounds", 3), ("threads", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    cases = [volume(seed, arguments.side) for seed in range(DIFFERENT)]
    makers = contenders()
    for name, make in makers.items():  # imports and compiles, too
        first = measure(makers[f"{name.partition(': ')[0]}: ours"], cases, 1)["score"]
        other = measure(make, cases, 1)["score"]
        assert abs(other - first) < (1e-3 if "ECE of the data set: torchmetrics" in name else 1e-4), (name, other, first)
    found: dict[str, list[dict[str, float]]] = {name: [] for name in makers}
    for _ in tqdm(range(arguments.rounds), desc="rounds", disable=None):
        for name, make in makers.items():
            found[name].append(measure(make, cases, arguments.volumes))
    print(
        f"{arguments.volumes} volumes of {arguments.side}^3, {CLASSES} classes, {arguments.threads} threads, {arguments.rounds} rounds"
    )
    print("| what | contender | CPU s | ours is so many times as fast | peak memory, MiB | score |\n|---|---|---|---|---|---|")
    for name in makers:
        what, _, who = name.partition(": ")
        own = statistics.median(row["cpu_s"] for row in found[f"{what}: ours"])
        seconds, peak = (statistics.median(row[key] for row in found[name]) for key in ("cpu_s", "peak_mib"))
        score = found[name][0]["score"]
        print(f"| {what} | {who} | {seconds:.2f} | {'' if who == 'ours' else f'{seconds / own:.1f}'} | {peak:.0f} | {score:.5f} |")
    growth(arguments.side // 2)


if __name__ == "__main__":
    main()
