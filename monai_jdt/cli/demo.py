"""The verb `demo`: train, evaluate and predict on phantoms, in a folder of its own."""

from __future__ import annotations

import csv
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from monai_jdt.cli.bundle import copy_bundle
from monai_jdt.data.names import user_path

_BUNDLE = "brats_multirater_segmentation"


def _bundle_runs(folder: Path) -> list[tuple[str, list[str]]]:
    """Return each step of the demo and its command line."""
    configs = folder / "configs"
    # Double quotes within: the shell's single quotes around the list then need no escape, and the printed line can be read.
    evaluate = json.dumps([str(configs / "train.yaml"), str(configs / "evaluate.yaml")], ensure_ascii=False)
    images = ["--dataset_dir", str(folder / "data" / "phantoms")]
    return [
        ("train on the average of the raters", ["--config_file", f"{configs}/train.yaml"]),
        ("evaluate against the raters' majority", ["--config_file", evaluate]),
        ("predict a probability map for each case", ["--config_file", f"{configs}/inference.yaml", *images]),
    ]


def _mean_dice(table: Path) -> str:
    """Return the validation Dice of a metrics table as a line."""
    with table.open() as lines:
        for row in csv.reader(lines):
            if row and row[0] == "val_mean_dice":
                return f"validation Dice against the raters' majority: {float(row[1]):.3f}"
    return f"validation metrics: {table}"


def demo_command(
    dest: Annotated[str, typer.Argument(help="The folder to work in. A bundle that it already holds is run again.")] = "monai_jdt_demo",
) -> None:
    """Train, evaluate and predict with the BraTS multi-rater bundle on phantoms: about a minute on two cores."""
    folder = Path(user_path(dest)).absolute()  # a name such as -x would be read as an option
    if not (folder / "configs").is_dir():
        copy_bundle(_BUNDLE, folder)
    for what, arguments in _bundle_runs(folder):
        command = ["-m", "monai.bundle", "run", *arguments, "--bundle_root", str(folder)]
        typer.echo(f"\n== {what}\n   python {shlex.join(command)}")
        done = subprocess.run([sys.executable, *command], env={**os.environ, "PYTHONUNBUFFERED": "1"})
        if done.returncode:
            raise typer.Exit(done.returncode)
    typer.echo(f"\n== done: {_mean_dice(folder / 'eval' / 'metrics.csv')}")
    for path, what in {
        "eval/case.png": "a picture of one validation case: look at it first",
        "eval/metrics.csv": "the metrics, by region",
        "eval/report.html": "every score against the raters, with intervals",
        "eval/predictions": "one probability map for each case, with the image's affine",
        "eval/tensorboard": "the course of training",
        "models/model.pt": "the weights of the best validation",
    }.items():
        typer.echo(f"   {folder / path}: {what}")
