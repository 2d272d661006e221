"""The page docs/nnunet.md with nnU-Net's real commands, each a process of its own, from files to scores."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from monai_jdt.cli import main
from monai_jdt.data.datalist_file import read_datalist, write_datalist
from monai_jdt.nnunet import ext_trainer
from tests.nnunet.tiny_data import NAME, tiny_plans, write_list

pytest.importorskip("nnunetv2")

pytestmark = pytest.mark.long

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = {
    "plan": "nnunetv2.experiment_planning.plan_and_preprocess_entrypoints:plan_and_preprocess_entry",
    "train": "nnunetv2.run.run_training:run_training_entry",
    "predict": "nnunetv2.inference.predict_from_raw_data:predict_entry_point",
}
#: A trainer of a user's own. Data are loaded by spawned processes.
SHORT = """
import multiprocessing

import torch

from monai_jdt.nnunet.trainer import nnUNetTrainerJDT

multiprocessing.set_start_method({start!r}, force=True)


class nnUNetTrainerShort(nnUNetTrainerJDT):
    def __init__(self, plans, configuration, fold, dataset_json, device=torch.device("cuda")):
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs = 2
        self.num_iterations_per_epoch = 3
        self.num_val_iterations_per_epoch = 1
        self.save_every = 1
"""


def nnunet(command: str, *arguments: str, **environment: str) -> str:
    """Run a command of nnU-Net, and return what it printed."""
    given = {**os.environ, "OMP_NUM_THREADS": "1", "nnUNet_def_n_proc": "1", **environment}
    words = [sys.executable, "-m", "tests.nnunet.nnunet_command", COMMANDS[command], *arguments]
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, env=given)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def ours(*arguments: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    assert not ended.value.code


def test_from_files_to_scores(nnunet_folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # nnU-Net's planner takes this number for torch's threads, and 0 is none
    monkeypatch.setenv("nnUNet_n_proc_DA", "1")
    listed = write_list(nnunet_folders / "files", cases=5, missing={0: [1]})
    items = read_datalist(listed, rater_names=True)
    write_datalist({"training": items[:4], "testing": items[4:]}, listed)
    ours("nnunet", "convert", str(listed), NAME, "--regions", '{"rim": [1], "core": [2]}', "--test", "testing", "--no-progress")
    nnunet("plan", "-d", "503", "--verify_dataset_integrity", "--no_pp", "-npfp", "1")
    plans = nnunet_folders / "preprocessed" / NAME / "nnUNetPlans.json"
    assert json.loads(plans.read_text())["configurations"]["3d_fullres"]["architecture"]
    plans.write_text(json.dumps(tiny_plans()))  # a network of a few weights, with a cascade
    ours("nnunet", "preprocess", "503", "3d_fullres", "3d_lowres", "-np", "1", "--no-progress")
    own = nnunet_folders / "own"
    own.mkdir()
    monkeypatch.setenv("nnUNet_extTrainer", os.pathsep.join([str(own), str(Path(ext_trainer.__file__).parent)]))
    training = ("-tr", "nnUNetTrainerShort", "-p", "nnUNetPlansRaters")
    # a cascade needs the first stage's prediction of every case, which one fold does not have
    stages = (("fork", "3d_lowres", "all"), ("spawn", "3d_cascade_fullres", "all"), ("forkserver", "3d_fullres", "0"))
    for start, configuration, fold_name in stages:
        (own / "short.py").write_text(SHORT.format(start=start))
        nnunet("train", "503", configuration, fold_name, *training, "-device", "cpu", "--npz")
    results = nnunet_folders / "results" / NAME
    fold = results / "nnUNetTrainerShort__nnUNetPlansRaters__3d_fullres" / "fold_0"
    assert np.isfinite(json.loads((fold / "validation" / "summary.json").read_text())["foreground_mean"]["Dice"])
    # going on after the end, and validating again
    nnunet("train", "503", "3d_fullres", "0", *training, "-device", "cpu", "--c")
    nnunet("train", "503", "3d_fullres", "0", *training, "-device", "cpu", "--val")

    predicted = nnunet_folders / "predicted"
    images = str(nnunet_folders / "raw" / NAME / "imagesTs")
    which = ("-i", images, "-o", str(predicted), "-d", "503", "-c", "3d_fullres", "-f", "0", *training)
    alone = {"WITHOUT_MONAI_JDT": "1", "nnUNet_extTrainer": ""}
    nnunet("predict", *which, "-device", "cpu", "--save_probabilities", "-npp", "1", "-nps", "1", **alone)
    assert {path.name for path in predicted.glob("c4.*")} == {"c4.nii.gz", "c4.npz", "c4.pkl"}
    raw = str(nnunet_folders / "raw" / NAME / "datalist.json")
    scores = nnunet_folders / "scores"
    regions = '{"rim": [1], "core": [2]}'
    ours("evaluate", str(predicted), raw, "--section", "testing", "--regions", regions, "--dest", str(scores), "--no-progress")
    rows = list(csv.DictReader((scores / "evaluation.csv").open()))
    brier = {row["region"]: float(row["value"]) for row in rows if row["score"] == "brier"}
    # the score by another program: from nnU-Net's own file
    found = np.load(predicted / "c4.npz")["probabilities"].transpose(0, 3, 2, 1)
    votes = np.stack([np.asarray(_voxels(path)) for path in read_datalist(raw, "testing")[0]["raters"]])
    for channel, region in ((1, "rim"), (2, "core")):
        expected = ((found[channel] - (votes == channel)) ** 2).mean()
        assert brier[region] == pytest.approx(expected, rel=1e-3)


def _voxels(path: str) -> np.ndarray:
    from tests.nifti_files import load_nifti

    return np.asarray(load_nifti(path).dataobj)
