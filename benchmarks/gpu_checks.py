"""Everything that only a GPU can tell, in one call of less than ten minutes: `python benchmarks/gpu_checks.py OUT`.

It needs torch with CUDA (and its Triton) and monai, and runs from a checkout. Every check prints one line, PASS, FAIL, ERROR or SKIP
with what was measured and the goal; a check that breaks does not stop the others. OUT gets `gpu_checks.csv` and `gpu_checks.md`,
written anew after every check, so that a run that is cut off leaves what it had. `--only parity,speed` runs some; `--tune` adds a
sweep over block shapes; `--seconds 200` starts nothing after so many. `--device cpu --small` runs the same lines under Triton's
interpreter, which tells nothing about a GPU, but whether this script works. See docs/gpu_checks.md.
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

if "cpu" in sys.argv:
    # read when triton is imported
    os.environ["TRITON_INTERPRET"] = "1"
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
import triton

import monai_jdt
from benchmarks.gpu import speed, values
from benchmarks.gpu.measuring import Bench, Line, NeedsGpu

CHECKS: dict[str, Callable[[Bench], Iterator[Line]]] = {
    "parity": values.check_parity,
    "closed form": values.check_closed_form,
    "speed": speed.check_speed,
    "host": speed.check_host,
    "syncs": speed.check_syncs,
    "graph": speed.check_graph,
    "memory": speed.check_memory,
    "bandwidth": speed.check_bandwidth,
    "block shapes": speed.sweep_shapes,
    "bad values": values.check_bad_values,
    "precision": values.check_precision,
    "halves": values.check_halves,
    "large": values.check_large,
    "other losses": values.check_other_losses,
    "trial": values.check_trial,
}


def machine(device: torch.device) -> str:
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU, interpreter"
    versions = f"torch {torch.__version__}, Triton {triton.__version__}, monai_jdt {monai_jdt.__version__}"
    return f"{name}; Python {platform.python_version()}, {versions}"


def write(folder: Path, title: str, rows: list[tuple[str, ...]]) -> None:
    header = ("check", "what", "measured", "goal", "result")
    with (folder / "gpu_checks.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    table = ["| " + " | ".join(cell.replace("|", "/") for cell in row) + " |" for row in (header, ("---",) * len(header), *rows)]
    (folder / "gpu_checks.md").write_text("\n".join([title, "", *table, ""]))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder for the tables")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--small", action="store_true", help="tiny volumes, few cases")
    parser.add_argument("--only", default="", help="some of: " + ", ".join(CHECKS))
    parser.add_argument("--tune", action="store_true", help="sweep block shapes too")
    parser.add_argument("--seconds", type=float, default=600, help="start no check, and no shape of the sweep, after so many")
    options = parser.parse_args()
    start = time.perf_counter()
    bench = Bench(torch.device(options.device), options.small, start + options.seconds)
    title = machine(bench.device)
    options.out.mkdir(parents=True, exist_ok=True)
    names = [name.strip() for name in options.only.split(",") if name.strip()] or list(CHECKS)
    checks = {name: CHECKS[name] for name in names if options.tune or options.only or name != "block shapes"}
    print(title, flush=True)
    torch.manual_seed(0)
    rows: list[tuple[str, ...]] = []

    def say(check: str, what: str, measured: str, goal: str, result: str) -> None:
        rows.append((check, what, measured, goal, result))
        print(
            f"{result:5} {time.perf_counter() - start:5.0f} s  {check}: {what}: {measured}" + (f" (goal: {goal})" if goal else ""),
            flush=True,
        )
        write(options.out, title, rows)

    for check, lines in checks.items():
        if not bench.has_time():
            say(check, "", "the time is up", "", "SKIP")
            continue
        try:
            for what, measured, passed, goal in lines(bench):
                # times of the interpreter say nothing about a GPU
                judged = None if bench.device.type == "cpu" and check in ("bandwidth", "speed") else passed
                say(check, what, measured, goal, {None: "", True: "PASS", False: "FAIL"}[judged])
        except NeedsGpu:
            say(check, "", "needs a GPU", "", "SKIP")
        except Exception as error:
            traceback.print_exc()
            say(check, "", f"{type(error).__name__}: {(str(error) or '?').splitlines()[0][:200]}", "", "ERROR")
        finally:
            if bench.device.type == "cuda":
                torch.cuda.empty_cache()
    failed = sum(row[-1] in ("FAIL", "ERROR") for row in rows)
    print(f"{failed} of {len(rows)} lines failed; {options.out / 'gpu_checks.md'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
