"""Masks with the best expected Dice: what each way loses against the exact search, and its time.

    python benchmarks/decision.py

`rankseg` (PyPI) takes part where it is installed. It is no dependency. The probabilities are uniform numbers to powers of 1 to 6.
Expected scores are exact up to 2,000 voxels, and those of the fast form above.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib.util import find_spec

import torch

from monai_jdt.functional.expected_overlap import best_expected_mask, expected_overlap


def deciders(voxels: int) -> dict[str, Callable[[torch.Tensor], torch.Tensor]]:
    """By name: from probabilities `(1, 1, V)` to a mask."""
    found: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
        "threshold .5": lambda p: p > 0.5,
        "fast": lambda p: best_expected_mask(p, both_empty="zero", exact=False)[0],
    }
    if find_spec("rankseg"):
        from rankseg import RankSEG

        # voxels that each solver takes in seconds and with less than 24 GiB
        for solver, most in (("RMA", 128**3), ("BA", 64**3), ("TRNA", 300)):
            if voxels <= most:
                rank = RankSEG(metric="dice", output_mode="multilabel", solver=solver, pruning_prob=0.0)
                found[f"rankseg {solver}"] = rank.predict
    if voxels <= 2000:
        found["exact"] = lambda p: best_expected_mask(p, both_empty="zero", exact=True)[0]
    return found


def main() -> None:
    """Print a table."""
    torch.manual_seed(0)
    print("| voxels | way | lost at most | ms |\n|---|---|---|---|")
    for voxels in (12, 40, 300, 2000, 64**3, 128**3):
        exact = voxels <= 2000
        maps = [torch.rand(1, 1, voxels, dtype=torch.float64) ** power for power in (range(1, 7) if exact else (3,))]
        best = [float(best_expected_mask(p, both_empty="zero", exact=exact)[1]) for p in maps]
        for name, decide in deciders(voxels).items():
            times, lost = [], []
            for p, reachable in zip(maps, best, strict=True):
                start = time.perf_counter()
                mask = decide(p)
                times.append(time.perf_counter() - start)
                lost.append(reachable - float(expected_overlap(p, mask, both_empty="zero", exact=exact)))
            print(f"| {voxels:,} | {name} | {max(max(lost), 0):.1e} | {1000 * sorted(times)[len(times) // 2]:.2f} |")


if __name__ == "__main__":
    main()
