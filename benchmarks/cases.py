"""Many small cases through `check`, `raters`, `evaluate` and `fuse`, by one process and by two.

`python benchmarks/cases.py [--cases 1000 10000] [--size 16] [--workers 1 2] [--verbs check raters evaluate fuse]` prints a table: wall
time, cases per second, processor time and the peak of the memory of all processes together. A verb is a process of its own, as a user
starts it. Each case has an image, three raters and a prediction, which are files of its own. What is written must be the same by one
process and by two, byte for byte. Needs psutil (extra `test`).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nibabel
import numpy as np
import psutil

#: Drawings that differ; cases take them in turn.
DRAWINGS = 50
RATERS = 3
MIB = 2**20


def nifti_bytes(voxels: np.ndarray) -> bytes:
    """The bytes of an uncompressed NIfTI file with voxels of 1 mm."""
    return nibabel.Nifti1Image(voxels, np.diag([-1.0, -1, 1, 1])).to_bytes()


def drawings(size: int) -> list[tuple[bytes, list[bytes], bytes]]:
    """Image, raters and prediction: a ball, drawn by raters whose radius and centre differ, and the mean of its raters."""
    random = np.random.default_rng(0)
    axes = np.stack(np.meshgrid(*[np.arange(size)] * 3, indexing="ij"))
    made = []
    for _ in range(DRAWINGS):
        centre, radius = random.uniform(size * 0.35, size * 0.65, 3), random.uniform(size * 0.15, size * 0.3)
        distance = [((axes - (centre + random.normal(0, 0.7, 3))[:, None, None, None]) ** 2).sum(0) for _ in range(RATERS)]
        raters = [(d < (radius + random.normal(0, 0.4)) ** 2).astype(np.uint8) for d in distance]
        image = (raters[0] + random.normal(0, 0.3, raters[0].shape)).astype(np.float32)
        made.append((nifti_bytes(image), [nifti_bytes(r) for r in raters], nifti_bytes(np.mean(raters, axis=0, dtype=np.float32))))
    return made


def write_cases(folder: Path, cases: int, size: int) -> Path:
    """Write the files, in folders of 100 cases, and the list."""
    made, items = drawings(size), []
    (folder / "predictions").mkdir(parents=True)
    for number in range(cases):
        image, raters, prediction = made[number % DRAWINGS]
        place = folder / f"{number // 100:04d}"
        place.mkdir(exist_ok=True)
        name = f"case{number:05d}"
        (place / f"{name}.nii").write_bytes(image)
        paths = [place / f"{name}_rater{rater}.nii" for rater in range(RATERS)]
        for path, rater in zip(paths, raters, strict=True):
            path.write_bytes(rater)
        (folder / "predictions" / f"{name}.nii").write_bytes(prediction)
        items.append({"case": name, "image": str(place / f"{name}.nii"), "raters": [str(path) for path in paths]})
    path = folder / "list.json"
    path.write_text(json.dumps({"training": items}))
    return path


def command(verb: str, datalist: Path, dest: Path) -> list[str]:
    """The verb's arguments."""
    ways = {
        "check": [str(datalist), "--label-values", "0,1", "--raters", str(RATERS)],
        # distances between boundaries are MONAI's, and would be most of the time
        "raters": [str(datalist), str(dest), "--no-boundary"],
        "evaluate": [str(datalist.parent / "predictions"), str(datalist), "--dest", str(dest)],
        "fuse": [str(dest), str(datalist), "--method", "staple"],
    }
    return [verb, *ways[verb], "--no-progress"]


def measured(arguments: list[str]) -> tuple[float, float, float, bytes]:
    """Wall seconds, processor seconds and the peak of the memory of a verb and its processes; and what it printed."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}  # one thread for each process
    start = time.perf_counter()
    with tempfile.TemporaryFile() as out:
        process = subprocess.Popen([sys.executable, "-m", "monai_jdt", *arguments], stdout=out, env=environment)
        watched, peak, seconds = psutil.Process(process.pid), 0, {}
        while process.poll() is None:
            memory = 0
            for part in _with_children(watched):
                try:
                    memory += part.memory_info().rss
                    seconds[part.pid] = sum(part.cpu_times()[:2])
                except psutil.Error:  # it has ended meanwhile
                    continue
            peak = max(peak, memory)
            time.sleep(0.2)
        wall = time.perf_counter() - start
        if process.returncode:
            raise SystemExit(f"{arguments[0]} ended with {process.returncode}")
        out.seek(0)
        return wall, sum(seconds.values()), peak / MIB, out.read()


def _with_children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return [process, *process.children(recursive=True)]
    except psutil.Error:
        return []


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, nargs="+", default=[1000, 10000])
    parser.add_argument("--size", type=int, default=16)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--verbs", nargs="+", default=["check", "raters", "evaluate", "fuse"])
    arguments = parser.parse_args()
    print("| verb | cases | processes | s | cases / s | processor s | MiB |\n|---|---|---|---|---|---|---|")
    for cases in arguments.cases:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            datalist = write_cases(folder / "data", cases, arguments.size)
            for verb in arguments.verbs:
                first: dict[str, bytes] = {}
                for workers in arguments.workers:
                    dest = folder / f"{verb}{workers}"
                    wall, seconds, memory, said = measured([*command(verb, datalist, dest), "--workers", str(workers)])
                    # a page or a record of the run may name the command and the date; the tables and labels may not
                    written = {str(p.relative_to(dest)): p.read_bytes() for p in dest.rglob("*") if p.suffix in (".csv", ".gz")}
                    written["standard output"] = said.replace(str(dest).encode(), b"")
                    first = first or written
                    assert written == first, f"{verb} by {workers} processes differs"
                    row = f"| `{verb}` | {cases} | {workers} | {wall:.1f} | {cases / wall:.0f} | {seconds:.0f} | {memory:.0f} |"
                    print(row, flush=True)


if __name__ == "__main__":
    main()
