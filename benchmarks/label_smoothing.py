"""Does label smoothing help? Hard labels, smoothed everywhere or near borders, and the readers' mean, on LIDC-IDRI's slices.

    python benchmarks/label_smoothing.py OUT --data FOLDER [--seeds 0,1,2,3,4]

Images, parts, network and training are those of benchmarks/real_raters.py in 2D. A run that is in OUT is not repeated: an interrupted
study goes on. When all runs of a seed are there, `label_smoothing.md` has the table of docs/label_smoothing.md.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.lidc_arrays import parts_of
from benchmarks.rater_training import Losses
from benchmarks.real_raters import SETS, digest_of_images, run
from benchmarks.real_raters_results import SCORES, Runs, estimate, markdown, runs_of
from monai_jdt.data.files.atomic import whole_file
from monai_jdt.losses import JDTCELoss

SEEDS = (0, 1, 2, 3, 4)
_loss = partial(JDTCELoss, sigmoid=True, batch=True)
#: The first is what the others are compared with.
LABELS: Losses = {
    "majority": (_loss, "majority"),
    "majority, smoothed everywhere": (partial(_loss, label_smoothing=0.1), "majority"),
    "majority, smoothed near borders": (_loss, "majority, smooth borders"),
    "mean of the readers": (_loss, "mean"),
}


def study(out: Path, folder: Path, seeds: Sequence[int] = SEEDS) -> Runs | None:
    """Do every run that is not done, all labels of a seed before the next seed. Return those of the seeds that are complete."""
    out.mkdir(parents=True, exist_ok=True)
    parts = parts_of(SETS["2d"].read(folder))
    images = digest_of_images(parts)
    for seed, label in tqdm([(seed, label) for seed in seeds for label in LABELS], desc="runs", disable=None):
        run(out, "2d", SETS["2d"], parts, label, seed, images, LABELS)
        write_table(out, seeds)
    return write_table(out, seeds)


def write_table(out: Path, seeds: Sequence[int]) -> Runs | None:
    """Write the table of the seeds that are complete, if there are any."""
    runs = runs_of(out, "2d", tuple(LABELS), seeds)
    if runs is not None:
        with whole_file(out / "label_smoothing.md") as draft:
            Path(draft).write_text(table(runs))
    return runs


def table(runs: Runs) -> str:
    """Return the scores of each label, and the differences to the first, in Markdown."""
    first, *others = LABELS
    means = [["score", *LABELS]]
    gaps = [["score", *(f"{label} minus {first}" for label in others)]]
    for score, (label, factor, digits, _) in SCORES.items():
        means.append([label, *(estimate(runs, score, one).text(factor, digits) for one in LABELS)])
        gaps.append([label, *(estimate(runs, score, one, first).text(factor, digits, "+") for one in others)])
    seeds = ", ".join(map(str, runs.seeds))
    about = f"Seeds {seeds}: {len(runs.patients):,} images of {len(set(runs.patients.tolist()))} patients"
    return "\n".join([f"**{about}**", "", *markdown(means), "", "**Differences**", "", *markdown(gaps), ""])


def main() -> None:
    """Do the runs and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder of the runs")
    parser.add_argument("--data", type=Path, required=True, help="folder of lidc2d.npz")
    parser.add_argument("--seeds", default=",".join(map(str, SEEDS)), help="which, separated by commas")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    runs = study(arguments.out, arguments.data, [int(seed) for seed in arguments.seeds.split(",")])
    if runs is not None:
        print(table(runs))


if __name__ == "__main__":
    main()
