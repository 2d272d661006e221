"""How a step's time depends on the size of the input, from 10^3 to 10^8 logits, beside the losses that users have today.

`python benchmarks/kernels.py OUT --cases small`, or `python benchmarks/sizes.py OUT [--threads 1,2] [--seconds 1.5] [--largest 1e8]`

For every size, label form and number of threads the contenders take turns in one process, until each has had its rounds; a case is
`soft`, `index` or `votes`, in two dimensions (sigmoid, one channel; or softmax) or three. OUT gets `sizes.csv`, a row for each case and
contender with p20, p50 and p80 in ms and MONAI's `DiceCELoss` over it; `losses.csv`, the same for every loss of the package at one
size; and `sizes.png`. Our kernels: `auto` with numba, `auto` without it, and `eager`.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.losses import DeepSupervisionLoss, DiceCELoss, DiceLoss
from torch.nn import functional as F
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.contenders import hard_dice_and_ce
from benchmarks.kernels import machine
from monai_jdt import losses
from monai_jdt.definitions import Backend
from monai_jdt.kernels.registry import KERNELS, KernelInfo

Step = Callable[[], torch.Tensor]
BASE = "MONAI DiceCELoss"

#: numba's row where it is not installed.
_ABSENT = replace(KERNELS[Backend.NUMBA], auto_on=())

#: Spatial sizes of softmax with four channels and two images; the first are smaller than any real input.
CUBES = (5, 8, 12, 16, 24, 32, 48, 64, 96, 128, 160, 232)


@dataclass(frozen=True)
class Sized:
    """An input.

    Args:
        form: "soft", "index" or "votes" of three raters.
        shape: of the logits, `(N, C, *S)`; with C = 1 sigmoid, else softmax.
    """

    form: str
    shape: tuple[int, ...]

    @property
    def logits(self) -> int:
        """The number of logits."""
        return int(np.prod(self.shape))

    @property
    def options(self) -> dict[str, Any]:
        """What a loss of MONAI or of this package is constructed with."""
        activation = "sigmoid" if self.shape[1] == 1 else "softmax"
        return {activation: True, "batch": True}

    def tensors(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits that ask for a gradient, and the label."""
        source = torch.Generator().manual_seed(0)
        classes = max(self.shape[1], 2)
        logits = torch.randn(self.shape, generator=source)
        space = self.shape[2:]
        if self.form == "soft":
            soft = torch.randn(self.shape, generator=source)
            return logits.requires_grad_(), soft.sigmoid() if self.shape[1] == 1 else soft.softmax(1)
        channels, dtype = (1, torch.int64) if self.form == "index" else (3, torch.uint8)
        return logits.requires_grad_(), torch.randint(classes, (self.shape[0], channels, *space), generator=source, dtype=dtype)


def cases(largest: float) -> list[Sized]:
    """All inputs of at most so many logits."""
    every = [Sized(form, (2, 4, side, side, side)) for form in ("soft", "index", "votes") for side in CUBES]
    every += [Sized("soft", (2, 2, side, side, side)) for side in (16, 32, 64)]
    every += [Sized(form, (images, 1, side, side)) for form in ("soft", "votes") for images, side in ((4, 32), (32, 64), (16, 256))]
    every += [Sized("soft", (images, 4, side, side)) for images, side in ((2, 32), (8, 64), (8, 256))]
    return [case for case in every if case.logits <= largest]


@contextmanager
def without_numba(row: KernelInfo = KERNELS[Backend.NUMBA]) -> Iterator[None]:
    """As on a machine without the extra `cpu`."""
    KERNELS[Backend.NUMBA] = _ABSENT
    try:
        yield
    finally:
        KERNELS[Backend.NUMBA] = row


def contenders(case: Sized) -> dict[str, Step]:
    """A step of each loss, by name, the base first."""
    logits, label = case.tensors()
    options = case.options
    own = {**options, "votes": case.form == "votes", "to_onehot_y": case.form == "index" and case.shape[1] > 1}
    to_onehot = bool(own["to_onehot_y"])

    def dense() -> torch.Tensor:
        """What users of other losses do with votes first."""
        if case.form != "votes":
            return label if to_onehot or case.form == "soft" else label.float()
        if case.shape[1] == 1:
            return label.float().mean(1, keepdim=True)
        return torch.stack([(label == c).float().mean(1) for c in range(case.shape[1])], 1)

    def ours(backend: str, without: bool = False) -> Step:
        loss = losses.JDTCELoss(**own, backend=backend)

        def step() -> torch.Tensor:
            with without_numba() if without else nullcontext():
                return loss(logits, label)

        return step

    ways: dict[str, Step] = {}
    dice_ce = DiceCELoss(**options, to_onehot_y=to_onehot)
    dice = DiceLoss(**options, to_onehot_y=to_onehot, soft_label=not to_onehot)
    ways[BASE] = lambda: dice_ce(logits, dense())
    ways["auto"] = ours("auto")
    ways["auto, without numba"] = ours("auto", without=True)
    if case.logits <= 2**22:
        ways["eager"] = ours("eager")
    ways["MONAI DiceLoss"] = lambda: dice(logits, dense())
    if to_onehot:
        ways["nnU-Net's way"] = lambda: hard_dice_and_ce(logits, label)
        ways["cross-entropy"] = lambda: F.cross_entropy(logits, label[:, 0])
    elif case.form == "soft":
        plain = F.binary_cross_entropy_with_logits if case.shape[1] == 1 else F.cross_entropy
        ways["cross-entropy"] = lambda: plain(logits, label)
    return {name: _with_backward(step, [logits]) for name, step in ways.items()}


def _with_backward(step: Step, leaves: Sequence[torch.Tensor]) -> Step:
    def both() -> torch.Tensor:
        for leaf in leaves:
            leaf.grad = None
        value = step()
        value.backward()
        return value

    return both


def every_loss() -> dict[str, Step]:
    """A step of each loss of the package on 2 x 4 x 32^3, and of MONAI's, by name, the base first."""
    case = Sized("soft", (2, 4, 32, 32, 32))
    logits, label = case.tensors()
    _, index = Sized("index", case.shape).tensors()
    teacher = torch.randn(case.shape)
    heads = [torch.randn(2, 4, side, side, side, requires_grad=True) for side in (64, 32, 16, 8, 4)]
    _, fine = Sized("soft", (2, 4, 64, 64, 64)).tensors()
    shared = case.options
    dice_ce, dice_ce_of_heads = DiceCELoss(**shared), DeepSupervisionLoss(DiceCELoss(**shared))
    simple = {
        name: getattr(losses, name)(**shared)
        for name in ("JDTLoss", "JaccardMetricLoss", "DiceSemimetricLoss", "CompatibleTverskyLoss", "JDTCELoss", "JDTFocalLoss")
    }
    distances = {name: getattr(losses, name)(dim=(0, 2, 3, 4)) for name in ("JaccardDistance", "DiceDistance")}
    distilled, lovasz = losses.DistillationLoss(**shared), losses.LovaszSoftmaxLoss(to_onehot_y=True)
    one, five = losses.JDTCELoss(**shared), losses.SoftDeepSupervisionLoss(losses.JDTCELoss(**shared))
    ways: dict[str, Step] = {BASE: lambda: dice_ce(logits, label)}
    ways |= {name: partial(loss, logits, label) for name, loss in simple.items()}
    ways |= {name: partial(_distance_of, loss, logits, label) for name, loss in distances.items()}
    ways["DistillationLoss"] = lambda: distilled(logits, label, teacher)
    ways["LovaszSoftmaxLoss"] = lambda: lovasz(logits, index)
    ways["JDTCELoss, 64^3"] = lambda: one(heads[0], fine)
    ways["SoftDeepSupervisionLoss, 64^3 and four smaller heads"] = lambda: five(heads, fine)
    ways["MONAI DiceCELoss, 64^3"] = lambda: dice_ce(heads[0], fine)
    ways["MONAI DeepSupervisionLoss, 64^3 and four smaller heads"] = lambda: dice_ce_of_heads(heads, fine)
    return {name: _with_backward(step, [logits, *heads]) for name, step in ways.items()}


def _distance_of(loss: torch.nn.Module, logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    return loss(logits.sigmoid(), label)


def time_in_turns(ways: dict[str, Step], seconds: float) -> list[dict[str, Any]]:
    """Rounds in which the contenders take turns, until the time is over; between 5 and 200, after two to warm up."""
    took: dict[str, list[float]] = {name: [] for name in ways}
    for step in ways.values():
        step()
        step()
    end = time.perf_counter() + seconds
    while len(took[BASE]) < 5 or (time.perf_counter() < end and len(took[BASE]) < 200):
        for name, step in ways.items():
            start = time.perf_counter()
            step()
            took[name].append(1e3 * (time.perf_counter() - start))
    base = float(np.median(took[BASE]))
    rows = []
    for name, times in took.items():
        low, half, high = np.percentile(times, [20, 50, 80])
        rows.append({"contender": name, "p20_ms": low, "p50_ms": half, "p80_ms": high, "base_over_it": base / half})
    return rows


def measure(threads: int, seconds: float, largest: float) -> dict[str, list[dict[str, Any]]]:
    """All rows of one number of threads, in this process."""
    torch.set_num_threads(threads)
    rows = []
    for case in tqdm(cases(largest), desc=f"{threads} threads"):
        about = {"threads": threads, "form": case.form, "shape": "x".join(map(str, case.shape)), "logits": case.logits}
        rows += [{**about, **row} for row in time_in_turns(contenders(case), seconds)]
    of_losses = [{"threads": threads, **row} for row in time_in_turns(every_loss(), 4 * seconds)]
    return {"sizes": rows, "losses": of_losses}


def draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """MONAI's `DiceCELoss` over each contender against the number of logits; a panel for each label form and number of threads."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    forms, threads = ("soft", "index", "votes"), sorted({row["threads"] for row in rows})
    figure, axes = pyplot.subplots(len(threads), 3, figsize=(12, 3.1 * len(threads) + 0.6), sharex=True, sharey=True, squeeze=False)
    names = [name for name in dict.fromkeys(row["contender"] for row in rows) if name != BASE]
    for line, number in enumerate(threads):
        for axis, form in zip(axes[line], forms, strict=True):
            mine = [row for row in rows if row["threads"] == number and row["form"] == form and _is_cube(row["shape"])]
            for place, name in enumerate(names):
                points = sorted((row["logits"], row["base_over_it"]) for row in mine if row["contender"] == name)
                if points:
                    bold = name.startswith("auto")
                    axis.plot(*zip(*points, strict=True), marker=".", lw=2 if bold else 1, color=f"C{place}", label=name)
            axis.axhline(1, color="black", lw=1)
            axis.set_xscale("log")
            axis.set_yscale("log")
            axis.set_yticks([0.1, 0.2, 0.5, 1, 2, 5], ["0.1", "0.2", "0.5", "1", "2", "5"])
            axis.minorticks_off()
            axis.grid(alpha=0.3)
            axis.set_title(f"{form} label, {number} thread{'s' * (number > 1)}", fontsize=10)
    for axis in axes[-1]:
        axis.set_xlabel("logits, 2 x 4 x side³")
    for axis in axes[:, 0]:
        axis.set_ylabel("MONAI DiceCELoss's time / its")
    handles = {label: handle for axis in axes.flat for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles, loc="upper center", ncols=len(handles), fontsize=9, frameon=False)
    figure.tight_layout(rect=(0, 0, 1, 1 - 0.35 / figure.get_figheight()))
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _is_cube(shape: str) -> bool:
    return shape.startswith("2x4x") and shape.count("x") == 4


def write(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """A CSV file, each row with what the figures belong to."""
    about = machine()
    del about["threads"]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0], *about], lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({key: f"{value:.4g}" if isinstance(value, float) else value for key, value in {**row, **about}.items()})


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, write, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder of the results")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--seconds", type=float, default=1.5, help="for each case, all contenders together")
    parser.add_argument("--largest", type=float, default=1.1e8, help="logits of the largest case")
    parser.add_argument("--only-threads", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.only_threads:
        print(json.dumps(measure(given.only_threads, given.seconds, given.largest)))
        return
    given.out.mkdir(parents=True, exist_ok=True)
    found: dict[str, list[dict[str, Any]]] = {"sizes": [], "losses": []}
    for number in given.threads.split(","):
        command = [sys.executable, __file__, str(given.out), "--only-threads", number]
        command += ["--seconds", str(given.seconds), "--largest", str(given.largest)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        for name, rows in json.loads(done.stdout.splitlines()[-1]).items():
            found[name] += rows
    for name, rows in found.items():
        write(rows, given.out / f"{name}.csv")
    draw(found["sizes"], given.out / "sizes.png")
    for row in found["sizes"] + found["losses"]:
        where = f"{row['threads']} {row.get('form', '')} {row.get('shape', '')}"
        print(f"{where:32s} {row['contender']:30s} {row['p50_ms']:9.3f} ms {row['base_over_it']:6.2f} x")


if __name__ == "__main__":
    main()
