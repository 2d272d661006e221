"""How long fusions take beside `v.mean(0)`: `python benchmarks/fusion.py`.

Seven raters of a ball-like lesion at 192^3, one region. The yardstick is the mean of the same stack as it must be for torch to take
one: float32. The rounds are interleaved, so that another process on the machine hits all alike; the medians and ratios are printed.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import SimpleITK
import torch

from monai_jdt.raters import fuse_average, fuse_dice_weighted, fuse_majority, fuse_multilabel_staple, fuse_staple, fuse_weighted


def ball_raters(raters: int, size: int) -> torch.Tensor:
    """Balls of different radii and centres, uint8 `(R, size, size, size)`, values 0 and 1."""
    axis = torch.linspace(-1, 1, size)
    votes = torch.empty((raters, size, size, size), dtype=torch.uint8)
    for number in range(raters):
        x, y, z = (axis - 0.03 * number) ** 2, axis**2, (axis + 0.02 * number) ** 2
        votes[number] = (x[:, None, None] + y[None, :, None] + z[None, None, :]) < (0.5 + 0.02 * number) ** 2
    return votes


def itk_staple(votes: torch.Tensor, threads: int) -> torch.Tensor:
    """Return the estimate of ITK's filter, float32."""
    em = SimpleITK.STAPLEImageFilter()
    em.SetForegroundValue(1.0)
    em.SetMaximumIterations(1000)
    em.SetNumberOfThreads(threads)
    return torch.from_numpy(SimpleITK.GetArrayFromImage(em.Execute([SimpleITK.GetImageFromArray(v.numpy()) for v in votes]))).float()


def main() -> None:
    """Time every fusion in turn and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--raters", type=int, default=7)
    parser.add_argument("--size", type=int, default=192)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    votes = ball_raters(arguments.raters, arguments.size)
    floats = votes.to(torch.float32)
    runs: dict[str, Callable[[], torch.Tensor]] = {
        "v.mean(0)": lambda: floats.mean(0),
        "average": lambda: fuse_average(votes, [1])[0],
        "weighted": lambda: fuse_weighted(votes, [1], range(1, arguments.raters + 1))[0],
        "dice_weighted": lambda: fuse_dice_weighted(votes, [1])[0],
        "majority": lambda: fuse_majority(votes, [1])[0],
        "staple": lambda: fuse_staple(votes, [1])[0],
        "multilabel_staple": lambda: fuse_multilabel_staple(votes, [1])[0],
        "ITK's STAPLE": lambda: itk_staple(votes, arguments.threads),
    }
    # right before fast
    torch.testing.assert_close(runs["staple"](), runs["ITK's STAPLE"](), atol=1e-6, rtol=0)
    torch.testing.assert_close(runs["average"](), runs["v.mean(0)"]())
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(arguments.rounds):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    ratios = {name: statistics.median(a / b for a, b in zip(took, seconds["v.mean(0)"], strict=True)) for name, took in seconds.items()}
    setting = f"{arguments.raters} raters at {arguments.size}^3, threads {arguments.threads}, median of {arguments.rounds}"
    print(f"{setting}, torch {torch.__version__}")
    for name, took in seconds.items():
        print(f"{name:18} {statistics.median(took) * 1e3:8.1f} ms  {ratios[name]:5.2f} x mean")


if __name__ == "__main__":
    main()
