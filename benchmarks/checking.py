"""Checking and loading 100 phantom cases of 3 raters at 64^3, against the same by plain MONAI transforms, as ratios of one run.

`python benchmarks/checking.py [--cases 100] [--size 64] [--repeats 3]`. The cases are copies of a few phantoms, so that
making them takes seconds; every file is read in full each time. The ways take turns, and each one's best time counts.

* load, MONAI: LoadImaged for the image and each rater, and ConcatItemsd to a stack.
* load, ours: the same image by LoadImaged, the raters by LoadRatersd, which also compares grids and values.
* check, MONAI: LoadImaged of every file, then shape, affine, finite and known values, by hand, as a careful user does.
* check, ours: find_problems, which also reads checksums and finds empty and copied raters.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from monai.transforms import Compose, ConcatItemsd, EnsureChannelFirstd, LoadImage, LoadImaged

from monai_jdt.data import brats_datalist, find_problems, write_brats_phantoms
from monai_jdt.transforms import LoadRatersd

VALUES = (0, 1, 2, 4)


def copied_cases(folder: str, cases: int, size: int, made: int = 4) -> list[dict[str, Any]]:
    """A list of `cases` items of one image channel and three raters, each with files of its own."""
    items = brats_datalist(write_brats_phantoms(os.path.join(folder, "made"), cases=made, shape=(size,) * 3, progress=False))
    copies = []
    for number in range(cases):
        source, place = items[number % made], os.path.join(folder, f"case{number}")
        os.makedirs(place)
        files = [source["image"][3], *source["raters"][:3]]
        paths = [shutil.copy(file, os.path.join(place, f"{name}.nii.gz")) for name, file in zip("iabc", files, strict=True)]
        copies.append({"case": f"case{number}", "image": paths[0], "raters": paths[1:]})
    return copies


def load_by_monai(items: list[dict[str, Any]]) -> None:
    """Image and rater stack of every case, by MONAI's transforms."""
    keys = ["r0", "r1", "r2"]
    load = Compose([LoadImaged(["image", *keys]), EnsureChannelFirstd(["image", *keys]), ConcatItemsd(keys, "raters")])
    for item in items:
        stack = load({"image": item["image"], **dict(zip(keys, item["raters"], strict=True))})["raters"]
        assert stack.shape[0] == 3


def load_by_us(items: list[dict[str, Any]]) -> None:
    """Image and rater stack of every case, raters by LoadRatersd."""
    load = Compose([LoadImaged("image"), EnsureChannelFirstd("image"), LoadRatersd("raters", label_values=VALUES, image_key="image")])
    for item in items:
        assert load(item)["raters"].shape[0] == 3


def check_by_monai(items: list[dict[str, Any]]) -> None:
    """Grid and values of every file, by LoadImage and torch."""
    load = LoadImage(image_only=True)
    for item in items:
        image = load(item["image"])
        assert torch.isfinite(image).all()
        for path in item["raters"]:
            rater = load(path)
            assert rater.shape == image.shape
            assert torch.allclose(rater.affine, image.affine, atol=1e-3)
            assert set(torch.unique(rater).tolist()) <= set(VALUES)


def check_by_us(items: list[dict[str, Any]]) -> None:
    """Everything that find_problems looks for."""
    problems = find_problems(items, channels=1, label_values=VALUES, progress=False)
    assert not [problem for problem in problems if problem.fatal]


def main() -> None:
    """Print seconds and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("cases", 100), ("size", 64), ("repeats", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    ways: dict[str, Callable[[list[dict[str, Any]]], None]] = {
        "load, MONAI": load_by_monai,
        "load, ours": load_by_us,
        "check, MONAI": check_by_monai,
        "check, ours": check_by_us,
    }
    with tempfile.TemporaryDirectory() as folder:
        items = copied_cases(folder, arguments.cases, arguments.size)
        best = dict.fromkeys(ways, np.inf)
        for way in ways.values():
            way(items[:2])  # imports and caches
        for _ in range(arguments.repeats):
            for name, way in ways.items():
                start = time.perf_counter()
                way(items)
                best[name] = min(best[name], time.perf_counter() - start)
    print(f"{arguments.cases} cases, 3 raters, {arguments.size}^3, best of {arguments.repeats}")
    for name, seconds in best.items():
        print(f"{name:14s} {seconds:7.2f} s")
    for what in ("load", "check"):
        print(f"{what}: ours / MONAI = {best[f'{what}, ours'] / best[f'{what}, MONAI']:.2f}")
    both = [sum(best[f"{what}, {who}"] for what in ("load", "check")) for who in ("ours", "MONAI")]
    print(f"both: ours / MONAI = {both[0] / both[1]:.2f}")


if __name__ == "__main__":
    main()
