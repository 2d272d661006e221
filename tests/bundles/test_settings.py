"""What a user can set wrongly: one line that names the setting, what was expected, what was got and the fix; and nothing is written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from monai.bundle import ConfigWorkflow, run

from monai_jdt.bundle_runtime import start
from monai_jdt.data import write_brats_phantoms, write_qubiq_phantoms
from monai_jdt.data.layouts.regions import REGION_CONVENTIONS
from tests.bundles import test_brats_bundle as brats
from tests.bundles import test_lidc_bundle as lidc
from tests.bundles import test_qubiq_bundle as qubiq

NO_GPU = pytest.mark.skipif(torch.cuda.is_available(), reason="names a device that this machine has")


#: Cases whose files are not looked at by the check of a run.
LISTED: dict[str, Any] = {
    "datalist": [{"case": str(n), "image": "a.nii", "raters": ["b.nii"]} for n in range(4)],
    "dataset_dir": os.path.dirname(__file__),
}


def refused(capsys: pytest.CaptureFixture[str], root: Path, files: list[str], **given: Any) -> str:
    """The last line of a run that is refused; nothing but the overlay is there afterwards."""
    before = sorted(root.rglob("*"))
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        run(config_file=files, **{"bundle_root": str(root), "logging_file": False, **given})
    printed = capsys.readouterr()
    assert caught.value.code == 1
    lines = printed.err.rstrip("\n").splitlines()
    assert len(lines) <= 10
    assert "Traceback" not in printed.err
    assert sorted(root.rglob("*")) == before
    assert lines[-1].startswith("monai_jdt: error: ")
    return lines[-1].removeprefix("monai_jdt: error: ")


CONVENTIONS = ", ".join(REGION_CONVENTIONS)
OF_LIMIT = f"a convention ({CONVENTIONS}), or channel names with label values from -32767 to 32767, got {{'cord': [40000]}}"
EVERYWHERE: list[Any] = [  # a mistake and what is said, as a tuple or with marks
    ({"device": "gpu"}, "device: expected a device of this machine, got 'gpu'. Fix: --device "),
    pytest.param({"device": "cuda:7"}, "device: expected a device of this machine, got 'cuda:7'. Fix: --device cpu", marks=NO_GPU),
    ({"batch_size": 0}, "batch_size: expected a whole number from 1 to 4096, got 0. Fix: --batch_size 1"),
    ({"val_interval": 0}, "val_interval: expected a whole number >= 1, got 0. Fix: --val_interval 4"),
    ({"num_workers": -1}, "num_workers: expected a whole number from 0 to 256, got -1. Fix: --num_workers 0"),
    ({"num_workers": 10**6}, "num_workers: expected a whole number from 0 to 256, got 1000000"),
    ({"learning_rate": "abc"}, "learning_rate: expected a number > 0, got 'abc'. Fix: --learning_rate 0.001"),
    ({"learning_rate": float("nan")}, "learning_rate: expected a number > 0, got nan"),
    ({"seed": 1.5}, "seed: expected a whole number from 0 to 4294967295, got 1.5. Fix: --seed 0"),
    ({"epochs": None}, "epochs: expected a whole number >= 1, got null. Fix: --epochs 20"),
    ({"epochs": True}, "epochs: expected a whole number >= 1, got True"),
    ({"amp": "maybe"}, "amp: expected true or false, got 'maybe'"),
    ({"dataset_dir": ("a", "b")}, "dataset_dir: expected a path without # or ::, or null, got ('a', 'b'). Fix: give one path"),
    ({"dataset_dir": 2021}, f"dataset_dir {os.path.abspath('2021')}: expected a folder with images, got nothing at that path"),
    ({"output_dir": ""}, "output_dir: expected a path without # or ::, got ''"),
    ({"output_dir": "/dev/null"}, "output_dir /dev/null: expected a folder to write in, got a file at /dev/null"),
    ({"ckpt_dir": "/dev/null/models"}, "ckpt_dir /dev/null/models: expected a folder to write in, got a file at /dev/null"),
    (
        {"datalist": 3},
        "datalist: expected a data list's path, or a list of cases, each a dictionary with case and image, got 3. Fix: --datalist ",
    ),
    (
        {"datalist": [{"image": "a.nii"}]},
        "datalist: expected a data list's path, or a list of cases, each a dictionary with case and image, ",
    ),
    ({"datalist": "x.json"}, "x.json: expected a datalist JSON, got nothing at that path. Fix: name the file"),
    (
        {"datalist": "x.json", "datalist_file": "y.json"},
        "datalist: expected one data list, got 'x.json', and 'y.json' as datalist_file. Fix: leave out one of the two",
    ),
    ({"datalist_section": "testing"}, "datalist_section: expected null without a data list, got 'testing'. Fix: --datalist list.json"),
    ({"split_by": "lists"}, "split_by: expected one of auto, list, draw, got 'lists'. Fix: --split_by list"),
    (
        {"split_by": "list"} | LISTED,
        "split_by: expected a data list with its own split, since split_by is list, got cases without folds",
    ),
    (
        LISTED | {"split_by": "list", "fold": 1, "datalist": [{**case, "list_section": "validation"} for case in LISTED["datalist"]]},
        "fold: expected null for a data list with a section validation, which is validated, got 1. Fix: leave fold out",
    ),
    ({"regions": "lidc"}, "regions: expected a convention (brats2018, brats2021, "),
    ({"regions": {}}, "regions: expected a convention"),
    ({"regions": {"cord": ["one"]}}, "regions: expected a convention"),
    ({"regions": {"cord": [40000]}}, f"regions: expected {OF_LIMIT}"),
    (
        {"datalist": LISTED["datalist"]},
        "datalist: expected absolute paths in a config's own list of cases, or a dataset_dir that they begin at, got 'a.nii'. "
        "Fix: give --dataset_dir FOLDER, or --datalist list.json",
    ),
    ({"regions": {"nodule": [7]}, "label_values": [0, 1]}, "regions: expected label values among label_values (0, 1), got nodule [7]"),
    (
        {"regions": {"nodule": [1, 7]}, "label_values": [0, 1]},
        "regions: expected label values among label_values (0, 1), got [7] as well",
    ),
    ({"label_values": 1}, "label_values: expected a list of whole numbers from -32767 to 32767, or null, got 1"),
    ({"figure_channel": 9}, "figure_channel: expected channels from 0 to "),
    ({"normalize": "zscor"}, "normalize: expected one of "),
    ({"window": [300, -200]}, 'window: expected a lower and a higher number, got [300.0, -200.0]. Fix: --window "[-200.0,300.0]"'),
    ({"percentiles": [1, 101]}, "percentiles: expected a list of 2 numbers from 0 to 100, got [1, 101]"),
    (
        {"decision": "expected"},
        "decision: expected one of threshold, expected_dice, expected_jaccard, got 'expected'. Fix: --decision expected_dice",
    ),
    ({"decision": None}, "decision: expected one of threshold, expected_dice, expected_jaccard, got null. Fix: --decision "),
    ({"temperature": 0}, "temperature: expected a number > 0, got 0. Fix: --temperature 1.5"),
    ({"temperature": -1}, "temperature: expected a number > 0, got -1. Fix: --temperature 1.5"),
    ({"empty_below": 1.5}, "empty_below: expected a number from 0 to 1, got 1.5. Fix: --empty_below 0.3"),
    (
        {"empty_below": 0.3},
        "empty_below: expected 0, since decision is threshold, got 0.3. Fix: --decision expected_dice, or leave it out",
    ),
    ({"phantoms#case": 3}, "phantoms#case: expected one of cases, shape, spacing, layout, seed, styles, progress, got an unknown key"),
    ({"phantoms#cases": 0}, "phantoms#cases: expected a whole number >= 2, got 0. Fix: --phantoms#cases 12"),
    ({"epoch": 3}, "--epoch: expected a key that the run reads, got an unknown one. Fix: did you mean --epochs?"),
    ({"lr": 3}, "--lr: expected a key that the run reads, got an unknown one. Fix: did you mean --learning_rate?"),
    ({"train#trainr": 3}, "--train#trainr: expected a key that the run reads, got an unknown one. Fix: did you mean --train#trainer?"),
    ({"loss#lamda_ce": 1}, "loss#lamda_ce: expected an argument of JDTCELoss, got an unknown one. Fix: did you mean lambda_ce?"),
    (
        {"loss#lambda_ce": -1},
        "loss (monai_jdt.losses.JDTCELoss): expected arguments that it can be built with, got ValueError: lambda_ce",
    ),
    ({"loss#_target_": "monai_jdt.losses.JDTCeLoss"}, "loss#_target_: expected a class or function that can be imported"),
    ({"loss#_target_": "JDTCeLoss"}, "loss#_target_: expected a class or function that can be imported"),
    ({"optimizer#_target_": "torch.optim.AdmaW"}, "optimizer#_target_: expected a class or function that can be imported"),
    ({"network_def#init_filters": 0}, "network_def: expected a network with weights in every layer, got none in convInit"),
    (
        {"network_def#in_chanels": 1},
        "network_def#in_chanels: expected an argument of SegResNet, got an unknown one. Fix: did you mean in_channels?",
    ),
    ({"network_def#norm": "NOPE"}, "network_def (monai.networks.nets.SegResNet): expected arguments that it can be built with, got "),
    (
        {"network_def#blocks_down": 5},
        "network_def (monai.networks.nets.SegResNet): expected arguments that it can be built with, got TypeError",
    ),
    ({"network_def": None}, "network_def: expected a component, got null"),
    ({"loss": "dice"}, "loss: expected a component, got 'dice'"),
    ({"run_id": "32]"}, "run_id: expected an item of the config, got '32]'"),
]
OF_ONE = [
    (brats, {"roi": 32}, 'roi: expected a list of 2 or 3 whole numbers from 1 to 4096, got 32. Fix: --roi "[32,32,32]"'),
    (brats, {"roi": [32, 32]}, "roi: expected 3 numbers, one for each axis, got 2: [32, 32]"),
    (brats, {"roi": [30, 32, 32]}, "roi: expected multiples of 8, since the network halves them 3 times, got [30, 32, 32]"),
    (
        brats,
        {"network_def#in_channels": 3},
        "network_def: expected a network that takes an input of shape (2, 4, 32, 32, 32), got RuntimeError",
    ),
    (brats, {"crops": 0}, "crops: expected a whole number from 1 to 4096, got 0. Fix: --crops 2"),
    (brats, {"size": [16, 16, 16]}, "--size: expected a key that the run reads, got an unknown one. Fix: did you mean --roi?"),
    *[(brats, {"val_fraction": x}, f"val_fraction: expected a number between 0 and 1, both excluded, got {x}") for x in (0, 1, 2)],
    (
        brats,
        {"layout": "brats2022"},
        "layout: expected one of auto, brats2018, brats2021, brats2023, msd, got 'brats2022'. Fix: --layout brats202",
    ),
    (
        qubiq,
        {"set": "pancreas", "size": [16, 16]},
        'size: expected 3 numbers, one for each axis, got 2: [16, 16]. Fix: --size "[16,16,16]"',
    ),
    (
        qubiq,
        {"set": "prostat"},
        "set: expected one of brain-growth, brain-tumor, kidney, prostate, pancreas, pancreatic-lesion, got 'prostat'",
    ),
    (
        qubiq,
        {"label_source": "stapple"},
        "label_source: expected one of average, weighted, majority, staple, random_rater, got 'stapple'",
    ),
    (qubiq, {"fold": 7}, "fold: expected a whole number from 0 to 4, since folds is 5, got 7. Fix: --fold 4"),
    (qubiq, {"folds": 1}, "folds: expected a whole number >= 2, got 1"),
    (qubiq, {"protocol": "papers"}, "protocol: expected one of short, paper, got 'papers'. Fix: --protocol paper"),
    (qubiq, {"spatial_dims": 4}, "spatial_dims: expected a whole number from 2 to 3, got 4"),
    (
        qubiq,
        {"regions": "brats2021", "label_values": [0, 1, 2, 4]},
        "regions: expected regions without a common label value, since the loss ",
    ),
]


# one declaration serves all bundles: they take turns
@pytest.mark.parametrize(
    ("turn", "given", "line"),
    [
        pytest.param(n, *case.values, marks=case.marks, id=str(case.values[0]))
        for n, case in enumerate(case if hasattr(case, "values") else pytest.param(*case) for case in EVERYWHERE)
    ],
)
def test_a_wrong_value_is_one_line(turn: int, given: dict[str, Any], line: str, tmp_path: Path, capsys: Any) -> None:
    bundle = (brats, lidc, qubiq)[turn % 3]
    assert refused(capsys, tmp_path, bundle.configs("train.yaml"), **given).startswith(line)


@pytest.mark.parametrize(("bundle", "given", "line"), OF_ONE, ids=str)
def test_a_wrong_value_of_one_bundle_is_one_line(
    bundle: ModuleType, given: dict[str, Any], line: str, tmp_path: Path, capsys: Any
) -> None:
    assert refused(capsys, tmp_path, bundle.configs("train.yaml"), **given).startswith(line)


def test_lesions_are_scored_in_volumes_only(tmp_path: Path, capsys: Any) -> None:
    given = {"challenge_scores": "brats", "ckpt_path": __file__, "folds": 2, **LISTED}
    line = refused(capsys, tmp_path, qubiq.configs("train.yaml", "evaluate.yaml"), **given)
    assert line.startswith("challenge_scores: expected qubiq or none for flat images, got brats. Fix: --challenge_scores qubiq")


@pytest.mark.parametrize(
    ("names", "given", "line"),
    [
        (
            ["multi_gpu_train.yaml"],
            {},
            "multi_gpu_train.yaml: expected processes that torchrun has started, got one process (RANK, ",
        ),
        *(
            (
                names,
                {},
                "evaluate.yaml: expected one process, since it is not divided over several, got multi_gpu_train.yaml. Fix: leave ",
            )
            for names in (["evaluate.yaml", "multi_gpu_train.yaml"], ["multi_gpu_train.yaml", "evaluate.yaml"])
        ),
        (
            ["evaluate.yaml"],
            {"ckpt_path": "no.pt"},
            "no.pt: expected a checkpoint, got no file at that path. Fix: train first, or name one with --ckpt_path",
        ),
        (
            ["evaluate.yaml"],
            {"challenge_scores": "BraTS", "ckpt_path": __file__},
            "challenge_scores: expected one of none, brats, qubiq, curvas, got 'BraTS'. Fix: --challenge_scores brats",
        ),
        (
            ["evaluate.yaml"],
            {"weights": "no.pt"},
            "--weights: expected a key that the run reads, got an unknown one. Fix: did you mean --ckpt_path?",
        ),
    ],
    ids=str,
)
@pytest.mark.parametrize("bundle", [brats, lidc, qubiq], ids=["brats", "lidc", "qubiq"])
def test_a_wrong_value_of_an_overlay_is_one_line(
    bundle: ModuleType, names: list[str], given: dict[str, Any], line: str, tmp_path: Path, capsys: Any, monkeypatch: Any
) -> None:
    monkeypatch.delenv("RANK", raising=False)
    assert refused(capsys, tmp_path, bundle.configs("train.yaml", *names), **given).startswith(line)


@pytest.mark.parametrize(
    ("bundle", "given", "line"),
    [
        (
            brats,
            {"label_values": [0, 255], "regions": {"all": [255]}},
            "loss#ignore_index: expected a value that is no label, got 255, which is one of label_values",
        ),
        (
            brats,
            {"label_values": None, "regions": {"all": [255]}},
            "loss#ignore_index: expected a value that is no label, got 255, which is one of the regions",
        ),
        (brats, {"loss#regions": [[7], [1], [4]]}, "loss#regions: expected the label values of regions, in their order: [[1, 4], "),
        (qubiq, {"loss#ignore_index": 1}, "loss#ignore_index: expected a value that is no label, got 1, which is one of the classes"),
        (lidc, {"loss#ignore_index": 1}, "loss#ignore_index: expected a value that is no label, got 1, which is one of the classes"),
        (
            lidc,
            {"activation": "sigmoid", "loss#ignore_index": 1},
            "loss#ignore_index: expected a value that is no label, got 1, which is one of label_values",
        ),
    ],
    ids=str,
)
def test_votes_are_held_against_the_settings(bundle: ModuleType, given: dict[str, Any], line: str, tmp_path: Path, capsys: Any) -> None:
    assert refused(capsys, tmp_path, bundle.configs("train.yaml", "votes.yaml"), **given).startswith(line)


@pytest.mark.parametrize(
    ("bundle", "given", "line"),
    [
        (
            brats,
            {"ckpt_dir": "models"},
            "--ckpt_dir: expected a key that the run reads, got an unknown one. Fix: did you mean --ckpt_path?",
        ),
        (
            brats,
            {"image_endings": ["a", "b"]},
            "image_endings: expected 1 ending (one file with all channels) or 4, one for each channel, got 2",
        ),
        (brats, {"channel_order": [2, 1, 3, 4]}, "channel_order: expected places from 0 to 3 for 4 channels, got [2, 1, 3, 4]"),
        (brats, {"roi": [16, 16]}, "roi: expected 3 numbers, one for each axis"),
        (brats, {"epochs": 3}, "--epochs: expected a key that the run reads, got an unknown one"),
        (brats, {"decision": "dice"}, "decision: expected one of threshold, expected_dice, expected_jaccard, got 'dice'"),
        (qubiq, {"save_masks": "maybe"}, "save_masks: expected true or false, got 'maybe'. Fix: --save_masks true"),
        (qubiq, {"empty_below": 0.3}, "empty_below: expected 0, since decision is threshold, got 0.3"),
        (
            qubiq,
            {"ckpt_dir": "models"},
            "--ckpt_dir: expected a key that the run reads, got an unknown one. Fix: did you mean --ckpt_path?",
        ),
        (lidc, {"roi": [24, 24]}, 'roi: expected a list of 3 whole numbers from 1 to 4096, got [24, 24]. Fix: --roi "[32,32,32]"'),
        (
            lidc,
            {"ckpt_path": __file__, "prediction_name": "nodule.png"},
            "prediction_name: expected a name that ends in .nii.gz, or in .png for ",
        ),
        (
            lidc,
            {"ckpt_path": __file__, "prediction_name": "../nodule.nii.gz"},
            "prediction_name: expected a name without folders: a prediction lies in ",
        ),
        (
            qubiq,
            {"ckpt_path": __file__, "prediction_name": "a/task01.nii.gz"},
            "prediction_name: expected a name without folders: a prediction lies in ",
        ),
        (qubiq, {"set": "colon"}, "set: expected one of brain-growth"),
        (qubiq, {"size": 64}, 'size: expected a list of 2 or 3 whole numbers from 1 to 4096, got 64. Fix: --size "[64,64]"'),
    ],
    ids=str,
)
def test_a_wrong_value_of_a_prediction_is_one_line(
    bundle: ModuleType, given: dict[str, Any], line: str, tmp_path: Path, capsys: Any
) -> None:
    assert refused(capsys, tmp_path, bundle.configs("inference.yaml"), **given).startswith(line)


@pytest.mark.parametrize(
    ("bundle", "overlay", "line"),
    [
        (
            qubiq,
            "label_sourse: staple",
            "label_sourse (mine.yaml): expected a key that the run reads, got an unknown one. Fix: did you mean label_source?",
        ),
        (brats, "folds: 3", "folds (mine.yaml): expected a key that the run reads, got an unknown one"),
        (
            brats,
            "max_epochs: 3",
            "max_epochs (mine.yaml): expected a key that the run reads, got an unknown one. Fix: did you mean epochs?",
        ),
        (brats, "Epochs: 3", "Epochs (mine.yaml): expected a key that the run reads, got an unknown one. Fix: did you mean epochs?"),
        (brats, "handlers: []", "handlers (mine.yaml): expected a key that the run reads, got an unknown one"),
        (
            brats,
            "+train: {dataloadr: {}}",
            "train#dataloadr (mine.yaml): expected a key that the run reads, got an unknown one. Fix: did you mean train#datalo",
        ),
        (
            brats,
            "version: 1",
            "version (mine.yaml): expected a key that the run reads, got an unknown one. Fix: write it as a comment, or as _version.",
        ),
        (brats, "epochs: 0", "epochs: expected a whole number >= 1, got 0"),
        (brats, "epochs: $1 - 1", "epochs: expected a whole number >= 1, got 0"),
        (
            brats,
            "epochs: $1 / 0",
            "epochs: expected an expression that can be computed, got '$1 / 0', which fails with ZeroDivisionError",
        ),
        (brats, "epochs: $@epoch_number", "epoch_number: expected a key that is there, since another one refers to it, got none"),
        (
            brats,
            "loss#lamda_ce: 1",
            "loss#lamda_ce: expected an argument of JDTCELoss, got an unknown one. Fix: did you mean lambda_ce?",
        ),
        (brats, "+optimizer: {lr_rate: 1}", "optimizer#lr_rate: expected an argument of AdamW, got an unknown one"),
    ],
    ids=str,
)
def test_an_overlay_file_is_checked_as_the_command_line(
    bundle: ModuleType, overlay: str, line: str, tmp_path: Path, capsys: Any
) -> None:
    (tmp_path / "mine.yaml").write_text(overlay + "\n")
    assert refused(capsys, tmp_path, [*bundle.configs("train.yaml"), str(tmp_path / "mine.yaml")]).startswith(line)


@pytest.mark.parametrize("text", ["", "[]", "{", "null"])
@pytest.mark.parametrize("bundle", [brats, lidc, qubiq], ids=["brats", "lidc", "qubiq"])
def test_settings_of_a_training_that_cannot_be_read_are_refused(bundle: ModuleType, text: str, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "model.pt").touch()
    (tmp_path / "models" / "model.json").write_text(text)
    line = refused(capsys, tmp_path, bundle.configs("inference.yaml"))
    assert line.startswith(f"{tmp_path}/models/model.json: expected the settings of a training, a JSON object, got ")


def test_an_args_file_is_checked_as_the_command_line(tmp_path: Path, capsys: Any) -> None:
    quiet: dict[str, Any] = {"logging_file": False}
    (tmp_path / "args.yaml").write_text(f"config_file: {brats.configs('train.yaml')}\nbundle_root: {tmp_path}\nepochz: 3\n")
    with pytest.raises(SystemExit):
        run(args_file=str(tmp_path / "args.yaml"), **quiet)
    assert "--epochz: expected a key that the run reads, got an unknown one. Fix: did you mean --epochs?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"epochz": None}, "--epochz: expected a key that the run reads, got an unknown one. Fix: did you mean --epochs?"),
        (
            {"train#trainer#max_epochs": "x"},
            "train#trainer#max_epochs: expected a whole number, as SupervisedTrainer declares it, got 'x'",
        ),
        ({"train#trainer#max_epochs": 0}, "train#trainer#max_epochs: expected a whole number >= 1, got 0"),
        ({"lr_scheduler#T_max": 0}, "lr_scheduler#T_max: expected a whole number >= 1, got 0"),
        ({"validate#key_metric": None}, "validate#key_metric: expected a metric, since it chooses the weights to keep, got null"),
        ({"network_def#out_channels": 7}, "network_def: expected 3 output channels, got 7. Fix: correct its out_channels"),
        ({"loss": 3}, "loss: expected a component, got 3"),
    ],
    ids=str,
)
def test_what_ended_in_a_traceback_or_in_silence_is_one_line(given: dict[str, Any], line: str, tmp_path: Path, capsys: Any) -> None:
    assert refused(capsys, tmp_path, brats.configs("train.yaml"), **given).startswith(line)


def test_a_loss_that_needs_the_data_is_tried_when_they_are_found(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "mine.yaml").write_text("loss#lambda_ce: $len(@datalist) * -0.25\n")
    data = write_brats_phantoms(tmp_path / "set", cases=2, shape=(12, 12, 12), progress=False)
    line = refused(capsys, tmp_path, [*brats.configs("train.yaml"), str(tmp_path / "mine.yaml")], dataset_dir=data)
    assert line.startswith("loss (monai_jdt.losses.JDTCELoss): expected arguments that it can be built with, got ValueError: lambda_ce")
    # a folder without cases is told as such, and not by the loss
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "x.txt").touch()
    line = refused(capsys, tmp_path, [*brats.configs("train.yaml"), str(tmp_path / "mine.yaml")], dataset_dir=str(tmp_path / "none"))
    assert "expected arguments" not in line


@pytest.mark.parametrize("disabled", [True, "$True"])
def test_a_disabled_tracker_needs_no_mlflow(disabled: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start, "find_spec", lambda name: None)
    (tmp_path / "mine.yaml").write_text(
        f"+train#handlers: [{{_target_: monai.handlers.MLFlowHandler, _disabled_: {disabled}, tracking_uri: x}}]\n"
    )
    (epochs,) = checked(tmp_path, [*brats.configs("train.yaml"), str(tmp_path / "mine.yaml")], "epochs", **LISTED)
    assert epochs == 24


@pytest.mark.parametrize("bundle", [brats, lidc, qubiq], ids=["brats", "lidc", "qubiq"])
def test_cases_of_a_config_begin_at_the_folder_that_is_given(bundle: ModuleType, tmp_path: Path) -> None:
    given: dict[str, Any] = {"folds": 2} if bundle is qubiq else {}
    listed, folder = checked(tmp_path, bundle.configs("train.yaml"), "datalist", "data_dir", **LISTED, **given)
    here = LISTED["dataset_dir"]
    assert [(item["image"], item["raters"]) for item in listed] == [(f"{here}/a.nii", [f"{here}/b.nii"])] * 4
    assert folder == here
    of_channels = [{**item, "image": [f"{here}/{item['case']}/t1.nii", f"{here}/{item['case']}/t2.nii"]} for item in listed]
    found, folder = checked(tmp_path, bundle.configs("train.yaml"), "datalist", "data_dir", datalist=of_channels, **given)
    assert found == of_channels
    assert folder == here
    assert list(tmp_path.iterdir()) == []


def test_channels_may_be_absent(tmp_path: Path) -> None:
    (axis,) = checked(tmp_path, qubiq.configs("train.yaml"), "channel_dim", channel_dim="no_channel", folds=2, **LISTED)
    assert axis == "no_channel"


def test_processes_on_a_cpu_need_no_place_on_their_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "0")
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    if torch.cuda.is_available():
        pytest.skip("GPUs are dealt out by LOCAL_RANK")
    assert checked(tmp_path, brats.configs("train.yaml", "multi_gpu_train.yaml"), "rank", **LISTED) == [0]


def test_a_misspelt_key_in_the_bundles_own_file_is_refused(tmp_path: Path, capsys: Any) -> None:
    text = Path(qubiq.configs("train.yaml")[0]).read_text()
    (tmp_path / "train.yaml").write_text(text.replace("\nlabel_source:", "\nlabel_sourse:", 1))
    line = refused(capsys, tmp_path, [str(tmp_path / "train.yaml")])
    assert line.startswith(
        "label_sourse (train.yaml): expected a key that the run reads, got an unknown one. Fix: did you mean label_source?"
    )


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: not str(path).startswith(str(tmp_path)))
    line = refused(capsys, tmp_path, brats.configs("train.yaml"))
    assert line.startswith(f"output_dir {tmp_path}/eval: expected a folder to write in, got no permission to write in {tmp_path}")


def test_tracking_without_mlflow_is_refused(tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(start, "find_spec", lambda name: None)
    line = refused(capsys, tmp_path, brats.configs("train.yaml"), tracking="mlflow")
    assert line == "--tracking: expected a tracker that is installed, got mlflow, which is not. Fix: pip install mlflow."


# --- what is meant in one way only is understood ---


def checked(root: Path, files: list[str], *names: str, **given: Any) -> list[Any]:
    """Settings of a run after its check."""
    workflow = ConfigWorkflow(config_file=files, logging_file=False, bundle_root=str(root), **given)
    workflow.parser["initialize"] = [workflow.parser["initialize"][0]]
    workflow.initialize()
    return [workflow.parser.get_parsed_content(name) for name in names]


@pytest.mark.parametrize(
    ("given", "value"),
    [
        ({"device": "cpu"}, "cpu"),
        ({"epochs": 2.0}, 2),
        ({"learning_rate": "1e-3"}, 0.001),
        ({"learning_rate": 1}, 1.0),
        ({"amp": "yes"}, True),
        ({"show_progress": 0}, False),
        ({"roi": (16, 16.0, 16)}, [16, 16, 16]),
        ({"output_dir": 2021}, "2021"),
        ({"output_dir": "~/runs"}, os.path.expanduser("~/runs")),
        ({"figure_case": 3}, "3"),
        ({"label_values": "null"}, None),
    ],
    ids=str,
)
def test_a_value_is_read_in_the_type_that_is_declared(given: dict[str, Any], value: Any, tmp_path: Path) -> None:
    (found,) = checked(tmp_path, brats.configs("train.yaml"), *given, **LISTED, **given)
    assert found == value
    assert type(found) is type(value)


def test_new_keys_that_something_refers_to_are_welcome(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(
        "+imports: [$import math]\nhalf: $math.sqrt(0.25)\nlearning_rate: '@half'\n_note: tried on Monday\n"
        "+train: {mine: 3}\n+phantoms: {cases: '@train#mine'}\nloss#gamma: 1.5\n+network_def: {norm: BATCH}\n"
        # one key of a table that is used as a whole, too; MONAI's own key of a component
        "my_norm: '@normalizations#ct'\n_kept: '@my_norm'\n+loss: {_debug_: false}\n"
    )
    rate, norm = checked(
        tmp_path, [*brats.configs("train.yaml"), str(tmp_path / "mine.yaml")], "learning_rate", "network_def#norm", **LISTED
    )
    assert (rate, norm) == (0.5, "BATCH")


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (
            {"regions": {"nodule": [7]}},
            "regions: expected label values that the files hold (0, 1, 2, 4), got nodule [7]: an empty region",
        ),
        (
            {"regions": {"all": [1, 2]}, "loss#ignore_index": 4},
            "ignore_index: expected a value that no label file holds, got 4, which some hold",
        ),
    ],
)
def test_regions_and_the_ignored_value_are_held_against_the_files(
    given: dict[str, Any], line: str, tmp_path: Path, capsys: Any
) -> None:
    data = write_brats_phantoms(tmp_path / "set", cases=2, shape=(12, 12, 12), progress=False)
    assert refused(capsys, tmp_path, brats.configs("train.yaml", "votes.yaml"), dataset_dir=data, **given).startswith(line)


def test_volumes_in_a_bundle_for_images_are_refused(tmp_path: Path, capsys: Any) -> None:
    data = write_qubiq_phantoms(tmp_path / "set", datasets="pancreas", cases=4, shape=(16, 16), progress=False)
    line = refused(
        capsys, tmp_path, qubiq.configs("train.yaml"), dataset_dir=data, set="pancreas", spatial_dims=2, size=[16, 16], folds=2
    )
    assert "expected an image of two axes, got shape (" in line
    assert line.endswith("Fix: give spatial_dims as the files are.")


def test_a_drawn_case_must_be_validated(tmp_path: Path, capsys: Any) -> None:
    ((_, validation),) = checked(tmp_path, brats.configs("train.yaml"), "split", **LISTED)
    trained = next(n for n in range(4) if str(n) != validation[0]["case"])
    line = refused(capsys, tmp_path, brats.configs("train.yaml"), figure_case=trained, **LISTED)
    assert line.startswith(f"figure_case: expected a case that is validated, got '{trained}', which is trained on. Fix: --figure_case ")
    line = refused(capsys, tmp_path, brats.configs("train.yaml"), figure_case="nobody", **LISTED)
    assert line.startswith("figure_case: expected the name of a validation case, got 'nobody'")


def test_the_check_leaves_the_random_numbers_of_the_run(tmp_path: Path) -> None:
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    checked(tmp_path, brats.configs("train.yaml"), **LISTED)
    assert torch.equal(torch.rand(3), expected)


def test_the_command_line_of_a_user_ends_with_one_line(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "monai.bundle",
        "run",
        "--config_file",
        *brats.configs("train.yaml"),
        "--bundle_root",
        str(tmp_path),
    ]
    done = subprocess.run([*command, "--roi", "[32]", "--epochs", "None"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    lines = done.stderr.rstrip("\n").splitlines()
    assert lines[-1].startswith("monai_jdt: error: epochs: expected a whole number >= 1, got null")
    assert lines[-2].startswith("roi: expected a list of 2 or 3 whole numbers from 1 to 4096, got [32]")
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []
