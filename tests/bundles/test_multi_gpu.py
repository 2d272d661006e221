"""The bundle under torchrun with two CPU processes: it ends, and validates as one process does, also with an uneven set."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from monai_jdt.data import write_brats_phantoms
from tests.bundles.test_brats_bundle import NETWORK, TINY, configs, start


def _run_on_two(root: Path, data: str, **overrides: object) -> subprocess.CompletedProcess[str]:
    options = [text for key, value in (TINY | overrides).items() for text in (f"--{key}", str(value))]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "monai.bundle", "run"]
    command += ["--config_file", str(configs("train.yaml", "multi_gpu_train.yaml")), "--bundle_root", str(root), "--dataset_dir", data]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run([*command, *options], capture_output=True, text=True, timeout=240, env=environment, cwd=root)


def test_two_processes_end_and_validate_as_one(tmp_path: Path) -> None:
    data = write_brats_phantoms(tmp_path / "set", cases=7, shape=(16, 16, 16), progress=False)
    # three validation cases over two processes
    done = _run_on_two(tmp_path, data, val_fraction=0.4, val_interval=2)
    assert done.returncode == 0, done.stderr[-3000:]
    (line,) = [text for text in done.stdout.splitlines() + done.stderr.splitlines() if "val_mean_dice:" in text and "Metrics" in text]
    together = float(line.rsplit("val_mean_dice:", 1)[1])
    assert all(not key.startswith("module.") for key in torch.load(tmp_path / "models" / "model.pt", weights_only=True))
    assert len(list((tmp_path / "eval").glob("case.png"))) == 1

    start("train.yaml", "evaluate.yaml", root=tmp_path, dataset_dir=data, val_fraction=0.4, **NETWORK)
    with (tmp_path / "eval" / "metrics.csv").open() as lines:
        alone = {row[0]: float(row[1]) for row in csv.reader(lines)}["val_mean_dice"]
    assert together == pytest.approx(alone, abs=1e-4)  # the log has four decimals


def test_an_error_in_the_data_ends_both(tmp_path: Path) -> None:
    done = _run_on_two(tmp_path, str(tmp_path / "nowhere"))
    assert done.returncode != 0
    assert "monai_jdt: error: dataset_dir" in done.stderr
