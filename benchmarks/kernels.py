"""Speed and memory of every kernel against the losses that users have today, as ratios of one run.

`python benchmarks/kernels.py OUT [--cases goals|small|growth|grid] [--rounds 9] [--allocators default,huge]`

First each kernel must agree with `eager`, in value and gradient, on a smaller sibling of every case; then, in a process of its
own for every allocator setting, forward and backward are timed in rounds in which the contenders take turns; then each
contender's extra peak memory is measured in a process of its own (Linux: the high-water mark of resident memory, set back before
a step). OUT gets `kernels.csv` (one row per case and contender: p20, p50, p80 in ms, memory over the logits' bytes, machine,
versions, commit) and pictures. Allocators: `default` is the C library's, which gives memory back to the system after each large
temporary, so that much of the time is page faults; `huge` is torch's THP_MEM_ALLOC_ENABLE=1.

Last, what a kernel's trial (`monai_jdt/kernels/trial.py`) costs once in a process, `first_use.csv`: the first step on each kernel in
processes of their own, with the trial and without, with what compilers find on disk; and a trial where all is compiled.
"""

from __future__ import annotations

import argparse
import csv
import ctypes
import gc
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.contenders import OURS, Case, Loss, contenders
from monai_jdt.definitions import Backend, VoxelRecipe
from monai_jdt.kernels import trial
from monai_jdt.kernels.choice import refusal
from monai_jdt.losses import JDTCELoss

ALLOCATORS: dict[str, dict[str, str]] = {"default": {}, "huge": {"THP_MEM_ALLOC_ENABLE": "1"}}

GOALS = [Case("soft", 4, 128, 2), Case("votes", 4, 128, 2), Case("index", 4, 128, 2), Case("index", 118, 64, 1)]
GROWTH = [
    *[Case("soft", 4, side, 1) for side in (32, 48, 64, 96, 128, 160, 192)],
    *[Case("soft", channels, 64, 1) for channels in (2, 3, 4, 6, 8, 9, 12, 16, 32, 64, 118)],
    *[Case("votes", 4, 96, 1, raters) for raters in (1, 2, 3, 5, 7, 11, 15)],
]
GRID = [
    Case(form, channels, side, batch)
    for form in ("soft", "index", "votes")
    for channels in (2, 4, 16, 118)
    for side in (64, 128, 192)
    for batch in (1, 2)
    # MONAI takes nine times the logits for votes
    if 4 * channels * batch * side**3 <= 2**30
]
CASES = {"goals": GOALS, "growth": GROWTH, "grid": GRID}


def check_parity(case: Case) -> dict[str, str]:
    """For each of our kernels that can run: largest relative differences from `eager`, or why it cannot.

    Raises:
        AssertionError: a kernel that differs.
    """
    small = replace(case, side=min(case.side, 23))
    logits, label = small.tensors()
    ways = contenders(small)
    value, slope = _value_and_gradient(ways["eager"], logits, label)
    said = {}
    for name in OURS[1:]:
        try:
            other, other_slope = _value_and_gradient(ways[name], logits, label)
        except ValueError as error:
            said[name] = str(error)
            continue
        apart = abs(other - value) / abs(value)
        slopes_apart = float((other_slope - slope).abs().max() / slope.abs().max())
        assert apart < 1e-6, (name, small, apart)
        assert slopes_apart < 1e-5, (name, small, slopes_apart)
        said[name] = f"{apart:.1e} / {slopes_apart:.1e}"
    return said


def _value_and_gradient(loss: Loss, logits: torch.Tensor, label: torch.Tensor) -> tuple[float, torch.Tensor]:
    logits.grad = None
    value = loss(logits, label)
    value.backward()
    assert logits.grad is not None
    return float(value.detach()), logits.grad


def _runnable(case: Case, only: Sequence[str] | None = None) -> dict[str, Loss]:
    """The contenders that run at all on this machine."""
    ways = contenders(case)
    tiny = replace(case, side=5)
    runnable = {}
    for name, loss in ways.items():
        if only is not None and name not in only:
            continue
        try:
            if name in OURS:
                loss(*tiny.tensors())
            runnable[name] = loss
        except ValueError:
            continue
    return runnable


def time_case(case: Case, rounds: int, only: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Forward and backward of each contender in turn, `rounds` times after two to warm up; and a copy of the logits."""
    logits, label = case.tensors()
    ways = _runnable(case, only)
    took: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    touched = torch.zeros_like(logits)
    copies = []
    for number in range(rounds + 2):
        for name, loss in ways.items():
            logits.grad = None
            start = time.perf_counter()
            value = loss(logits, label)
            middle = time.perf_counter()
            value.backward()
            end = time.perf_counter()
            del value
            if number >= 2:
                took[name].append((middle - start, end - middle))
        logits.grad = None
        start = time.perf_counter()
        with torch.no_grad():
            touched.copy_(logits)
        if number >= 2:
            copies.append(time.perf_counter() - start)
    rows = []
    # a copy reads and writes
    bandwidth = 2 * case.logits_bytes / float(np.median(copies))
    for name, pairs in took.items():
        total = [1e3 * sum(pair) for pair in pairs]
        low, half, high = np.percentile(total, [20, 50, 80])
        forward = 1e3 * float(np.median([pair[0] for pair in pairs]))
        rows.append({"contender": name, "p20_ms": low, "p50_ms": half, "p80_ms": high, "forward_p50_ms": forward})
    floor = 1e3 * case.least_bytes / bandwidth
    rows.append({"contender": "floor", "p20_ms": floor, "p50_ms": floor, "p80_ms": floor, "forward_p50_ms": None})
    return rows


def measure_memory(case: Case, name: str) -> float | None:
    """Extra peak memory of a step over the bytes of the logits, gradient included; None where the system does not tell."""
    if not os.path.exists("/proc/self/clear_refs"):
        return None
    logits, label = case.tensors()
    loss = contenders(case)[name]
    for _ in range(2):
        logits.grad = None
        loss(logits, label).backward()
    logits.grad = None
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    with open("/proc/self/clear_refs", "w") as refs:
        refs.write("5")
    before = _status("VmRSS")
    loss(logits, label).backward()
    return (_status("VmHWM") - before) / case.logits_bytes


def _status(name: str) -> int:
    with open("/proc/self/status") as lines:
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith(name + ":"))


def first_use(kernel: str, device: str = "cpu") -> dict[str, Any]:
    """Seconds of a process's first step on a kernel, of the trial alone, when all is imported and compiled, and what it found.

    Args:
        kernel: the name of a fast one.
        device: where it is used.
    """
    logits, label = Case("soft", 3, 8, 1).tensors(device)
    reason = refusal(Backend(kernel), logits, label, VoxelRecipe())
    if reason is not None:
        return {"kernel": kernel, "device": device, "first_step_s": None, "trial_s": None, "found": reason}
    # what torch makes ready at its first step is not the kernel's
    JDTCELoss(softmax=True, backend="eager")(logits, label).backward()
    start = time.perf_counter()
    with suppress(ValueError):  # the trial below says what is wrong
        JDTCELoss(softmax=True, backend=kernel)(logits, label).backward()
    first_step = time.perf_counter() - start
    trial._verdicts.clear()
    start = time.perf_counter()
    found = trial.failed_trial(Backend(kernel), logits.device)
    took = time.perf_counter() - start
    return {"kernel": kernel, "device": device, "first_step_s": first_step, "trial_s": took, "found": found or "agrees with eager"}


def write_first_uses(out: Path) -> None:
    """`out/first_use.csv`, and a line for each kernel: its first step with the trial, and in another process without."""
    devices = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])
    rows = []
    for kernel, device in [(kernel, device) for kernel in OURS[1:] for device in devices]:
        task = {"what": "first use", "kernel": kernel, "device": device}
        untried = _in_a_process(task, {trial.SWITCH: "off"})["first_step_s"]
        row = {**_in_a_process(task, {trial.SWITCH: "on"}), "first_step_untried_s": untried}
        rows.append(row)
        took = ""
        if untried is not None:
            took = f"first step {1e3 * row['first_step_s']:.0f} ms, without a trial {1e3 * untried:.0f} ms; a trial where all is ready "
            took += f"{1e3 * row['trial_s']:.1f} ms; "
        print(f"{kernel} on {device}: {took}{row['found']}")
    with (out / "first_use.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def machine() -> dict[str, Any]:
    """What the figures belong to."""
    from importlib.metadata import PackageNotFoundError, version

    def known(name: str) -> str:
        try:
            return version(name)
        except PackageNotFoundError:
            return ""

    model = platform.processor()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo") as lines:
            model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), model)
    here = Path(__file__).parent
    commit = subprocess.run(["git", "-C", str(here), "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    return {
        "cpu": model,
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "monai": known("monai"),
        "numba": known("numba"),
        "commit": commit,
        "date": time.strftime("%Y-%m-%d"),
    }


def _in_a_process(task: dict[str, Any], environment: dict[str, str]) -> Any:
    command = [sys.executable, os.path.abspath(__file__), "--task", json.dumps(task)]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{task} ended with {done.returncode}:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def _do_task(task: dict[str, Any]) -> None:
    if task["what"] == "first use":
        print(json.dumps(first_use(task["kernel"], task["device"])))
        return
    case = Case(**task["case"])
    if task["what"] == "time":
        print(json.dumps(time_case(case, task["rounds"], task["only"])))
    else:
        print(json.dumps(measure_memory(case, task["contender"])))


def measure(
    cases: Sequence[Case], out: Path, rounds: int, allocators: Sequence[str], only: Sequence[str] | None
) -> list[dict[str, Any]]:
    """Everything, into `out/kernels.csv`."""
    for case in tqdm(list(dict.fromkeys(replace(case, side=23) for case in cases)), desc="parity"):
        said = check_parity(case)
        tqdm.write(f"{case.form}, C={case.channels}: " + "; ".join(f"{name} {what}" for name, what in said.items()))
    about = machine()
    rows = []
    for case, allocator in tqdm([(case, name) for case in cases for name in allocators], desc="time and memory"):
        environment = ALLOCATORS[allocator]
        task = {"case": asdict(case), "what": "time", "rounds": rounds, "only": only}
        for row in _in_a_process(task, environment):
            memory = None
            if row["contender"] != "floor" and allocator == "default":
                memory = _in_a_process({"case": asdict(case), "what": "memory", "contender": row["contender"]}, environment)
            rows.append({**asdict(case), "allocator": allocator, **row, "memory_over_logits": memory, **about})
        with (out / "kernels.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    return rows


def print_ratios(rows: Sequence[dict[str, Any]]) -> None:
    """MONAI's DiceCELoss over each contender, case by case."""
    for key in dict.fromkeys(
        (row["form"], row["channels"], row["side"], row["batch"], row["raters"], row["allocator"]) for row in rows
    ):
        names = ("form", "channels", "side", "batch", "raters", "allocator")
        mine = [row for row in rows if tuple(row[name] for name in names) == key]
        base = next((row["p50_ms"] for row in mine if row["contender"] == "MONAI DiceCELoss"), None)
        print(f"{key[0]} C={key[1]} {key[3]}x{key[2]}^3 R={key[4]} {key[5]}")
        for row in mine:
            times = "" if base is None else f"{base / row['p50_ms']:6.2f} x"
            memory = "" if row["memory_over_logits"] is None else f"memory {row['memory_over_logits']:.2f} x logits"
            spread = f"{row['p50_ms']:8.1f} ms ({row['p20_ms']:.1f} to {row['p80_ms']:.1f})"
            print(f"  {row['contender']:18s} {spread:32s} {times} {memory}")


def draw_ratios(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Bars: time and memory of each contender, a group for each case."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    cases = list(dict.fromkeys((r["form"], r["channels"], r["side"], r["batch"], r["allocator"]) for r in rows))
    names = [name for name in dict.fromkeys(r["contender"] for r in rows) if name != "floor"]
    colours = {name: f"C{number}" for number, name in enumerate(names)}
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 0.13 * len(cases) * len(names) + 1.8), sharey=True)
    height = 0.85 / len(names)
    for number, key in enumerate(cases):
        mine = {r["contender"]: r for r in rows if (r["form"], r["channels"], r["side"], r["batch"], r["allocator"]) == key}
        for place, name in enumerate(names):
            if name not in mine:
                continue
            at = number + (place - (len(names) - 1) / 2) * height
            row = mine[name]
            error = [[row["p50_ms"] - row["p20_ms"]], [row["p80_ms"] - row["p50_ms"]]]
            left.barh(at, row["p50_ms"], height, color=colours[name], xerr=error, error_kw={"lw": 0.7})
            if row["memory_over_logits"] is not None:
                right.barh(at, row["memory_over_logits"], height, color=colours[name])
        floor = mine["floor"]["p50_ms"]
        left.plot([floor, floor], [number - 0.45, number + 0.45], color="black", lw=1)
    pages = {"default": "default malloc", "huge": "huge pages"}
    left.set_yticks(range(len(cases)), [f"{f}, C={c}, {b}x{s}³\n{pages[a]}" for f, c, s, b, a in cases])
    left.set_ylim(len(cases) - 0.5, -0.5)
    left.set_xscale("log")
    left.set_xlabel("forward + backward, ms (median; 20 to 80 %)")
    right.set_xlabel("extra peak memory, multiples of the logits (default malloc)")
    right.axvline(1, color="black", lw=1)
    handles = [*(pyplot.Rectangle((0, 0), 1, 1, color=colours[name]) for name in names), pyplot.Line2D([], [], color="black", lw=1)]
    labels = [*names, "time: the bytes that must move; memory: the gradient"]
    figure.legend(handles, labels, loc="upper center", ncols=5, fontsize=8, frameon=False)
    figure.tight_layout(rect=(0, 0, 1, 1 - 0.6 / figure.get_figheight()))
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def draw_growth(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Lines: time per voxel (and class) against the number of voxels, of classes and of raters."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 3, figsize=(12, 3.4))
    panels = (
        ("voxels", lambda r: r["form"] == "soft" and r["channels"] == 4, lambda r: r["batch"] * r["side"] ** 3),
        ("classes", lambda r: r["form"] == "soft" and r["side"] == 64, lambda r: r["channels"]),
        ("raters", lambda r: r["form"] == "votes" and r["side"] == 96, lambda r: r["raters"]),
    )
    for axis, (what, chosen, size) in zip(axes, panels, strict=True):
        picked = [row for row in rows if chosen(row) and row["allocator"] == "default" and row["contender"] != "floor"]
        for name in dict.fromkeys(row["contender"] for row in picked):
            line = sorted((size(row), row["p50_ms"]) for row in picked if row["contender"] == name)
            axis.plot(*zip(*line, strict=True), marker=".", label=name)
        axis.set_xlabel(what)
        axis.set_xscale("log")
        axis.set_yscale("log")
        axis.grid(alpha=0.3, which="both")
    axes[0].set_ylabel("forward + backward, ms")
    axes[0].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def main() -> None:
    """Check, measure, write, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", nargs="?", type=Path, help="folder of the results")
    parser.add_argument("--cases", choices=[*CASES, "small"], default="goals", help="small: benchmarks/sizes.py")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--allocators", default="default,huge")
    parser.add_argument("--only", help="names of contenders, separated by ';'")
    parser.add_argument("--task", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.task:
        _do_task(json.loads(arguments.task))
        return
    if arguments.out is None:
        parser.error("OUT: expected a folder for the results, got none")
    if arguments.cases == "small":
        from benchmarks import sizes

        sizes.main([str(arguments.out)])
        return
    arguments.out.mkdir(parents=True, exist_ok=True)
    only = arguments.only.split(";") if arguments.only else None
    rows = measure(CASES[arguments.cases], arguments.out, arguments.rounds, arguments.allocators.split(","), only)
    print_ratios(rows)
    write_first_uses(arguments.out)
    (draw_growth if arguments.cases == "growth" else draw_ratios)(rows, arguments.out / f"{arguments.cases}.png")


if __name__ == "__main__":
    main()
