import importlib
import os

import pytest

import monai_jdt.bundle_runtime as bundle_start
from monai_jdt.cli.bundle import copy_bundle, shipped_bundles
from monai_jdt.data import ensure_brats_phantoms
from monai_jdt.data.problems import DataProblem, DataProblemError
from monai_jdt.handlers import NonFiniteLossError

PROGRAM = os.path.join("site-packages", "monai", "bundle", "__main__.py")
CONFIG = """
epochs: 20
learning_rate: 0.1
net: {_target_: monai.networks.nets.SegResNet, in_channels: 4}
train:
  trainer: {_target_: monai.engines.SupervisedTrainer, max_epochs: '@epochs'}
  handlers: [{_target_: monai.handlers.StatsHandler}]
  plain: {a: 1}
"""


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "train.yaml"
    path.write_text(CONFIG)
    return str(path)


def last_line(capsys):
    return capsys.readouterr().err.rstrip("\n").splitlines()[-1]


@pytest.mark.parametrize(
    ("override", "hint"),
    [
        (["--epoch", "3"], "did you mean --epochs?"),
        (["--epoch=3"], "did you mean --epochs?"),
        (["--train#trainer_", "3"], "did you mean --train#trainer?"),
        (["--train::plain::b", "3"], "an unknown one"),
        (["--train#handlers#1", "3"], "an unknown one"),
        (["--train#handlerz#0#x", "3"], "did you mean --train#handlers?"),
        (["--+epochs", "3"], "overlay"),
        (["--learnig-rate", "3"], "did you mean --learning_rate?"),
        (["--epoch"], "did you mean --epochs?"),
    ],
)
def test_an_unknown_override_is_told(config, capsys, override, hint):
    with pytest.raises(SystemExit) as caught:
        bundle_start.refuse_unknown_overrides([PROGRAM, "run", "--config_file", config, *override])
    assert caught.value.code == 1
    line = last_line(capsys)
    assert line.startswith("monai_jdt: error: --")
    assert hint in line


@pytest.mark.parametrize(
    "override",
    [
        [],
        ["--epochs", "-3"],
        ["--learning-rate", "1e-3"],
        ["--train#trainer#max_epochs", "3", "--train::trainer::amp", "True"],
        ["--net#dropout_prob", "0.1", "--net#_disabled_", "True"],
        ["--train#handlers#0#iteration_log", "False"],
        ["--train#plain#a", "2", "--bundle_root", "x"],
        ["--tracking", "mlflow", "--experiment_name", "x", "--run_id", "run", "--", "--trace"],
        ["--workflow_type", "train"],
    ],
)
def test_known_overrides_pass(config, tmp_path, override):
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text("bundle_root: .\n")
    files = f"['{config}','{overlay}']"
    # it would end the process otherwise
    assert bundle_start.refuse_unknown_overrides([PROGRAM, "run", "--config_file", files, *override]) is None


def test_an_args_file_is_read_too(config, tmp_path, capsys):
    arguments = tmp_path / "args.yaml"
    arguments.write_text(f"config_file: {config}\nepochz: 3\n")
    with pytest.raises(SystemExit):
        bundle_start.refuse_unknown_overrides([PROGRAM, "run", "--args_file", str(arguments)])
    assert "--epochz" in last_line(capsys)


def test_other_programs_are_not_checked(config):
    for program in (["pytest", "run"], [PROGRAM, "verify_metadata"], ["-c"], [PROGRAM], []):
        assert bundle_start.refuse_unknown_overrides([*program, "--config_file", config, "--epoch", "3"]) is None
    assert bundle_start.refuse_unknown_overrides() is None


def test_or_exit(capsys):
    assert bundle_start.or_exit(max, 1, 2) == 2

    def fail():
        raise DataProblemError([DataProblem(f"{c}.nii.gz", "a", "b", "c") for c in "xyz"])

    with pytest.raises(SystemExit) as caught:
        bundle_start.or_exit(fail)
    assert caught.value.code == 1
    lines = capsys.readouterr().err.splitlines()
    assert [line[:8] for line in lines[:3]] == ["x.nii.gz", "y.nii.gz", "z.nii.gz"]
    assert lines[3].startswith("monai_jdt: error: 3 problems in the data, the first: x.nii.gz")
    with pytest.raises(KeyError):  # not one of ours: a traceback helps more
        bundle_start.or_exit({}.__getitem__, "a")


@pytest.mark.parametrize("error", [NonFiniteLossError("the loss is nan"), DataProblemError([DataProblem(*"abcd")])])
def test_run_or_exit_finds_what_was_wrapped(capsys, error):
    class Engine:
        def run(self):
            try:
                raise error
            except Exception as inner:
                raise RuntimeError("applying transform") from inner

    with pytest.raises(SystemExit) as caught:
        bundle_start.run_or_exit(Engine())
    assert caught.value.code == 1
    assert last_line(capsys) == f"monai_jdt: error: {error}"


def test_run_or_exit_leaves_other_errors():
    class Engine:
        def run(self):
            raise ValueError("size mismatch")

    with pytest.raises(ValueError, match="size mismatch"):
        bundle_start.run_or_exit(Engine())


def test_data_folder(tmp_path, capsys):
    phantoms = bundle_start.data_folder(None, str(tmp_path / "data"), ensure_brats_phantoms, cases=1, shape=[12, 12, 12])
    assert os.listdir(phantoms)
    assert bundle_start.data_folder(phantoms, "unused", ensure_brats_phantoms) == phantoms
    (tmp_path / "empty").mkdir()
    for name in ("absent", "empty"):
        with pytest.raises(SystemExit):
            bundle_start.data_folder(str(tmp_path / name), str(tmp_path / "never"), ensure_brats_phantoms)
        assert f"dataset_dir {tmp_path / name}" in last_line(capsys)
    assert not (tmp_path / "never").exists()


def test_a_bundle_is_copied_once(tmp_path):
    assert "brats_multirater_segmentation" in shipped_bundles()
    copy = copy_bundle("brats_multirater_segmentation", tmp_path / "deep" / "mine")
    assert sorted(os.listdir(copy)) == ["LICENSE", "configs", "docs"]
    assert os.listdir(tmp_path / "deep") == ["mine"]
    with pytest.raises(FileExistsError, match="mine"):
        copy_bundle("brats_multirater_segmentation", copy)
    with pytest.raises(ValueError, match="among"):
        copy_bundle("brats", tmp_path / "x")


@pytest.mark.parametrize(("value", "fix"), [("prostat", "--set prostate"), ("Kidney", "--set kidney"), (7, "--set kidney")])
def test_a_choice_that_is_none_names_the_closest(value, fix):
    assert bundle_start.check_choice("set", "kidney", ["kidney", "prostate"]) is None
    with pytest.raises(ValueError, match=fix):
        bundle_start.check_choice("set", value, ["kidney", "prostate"])


def test_every_size_is_checked_under_its_own_name():
    assert bundle_start.check_settings(epochs=1, blocks=4, roi=[8, 16], size=[24]) is None
    with pytest.raises(ValueError, match=r"size: expected multiples of 4, .* got \[8, 6\]. Fix: \[8, 8\]"):
        bundle_start.check_settings(epochs=1, blocks=3, roi=[8], size=[8, 6])


def test_bundles_copied_earlier_find_the_functions_at_their_former_place():
    former = importlib.import_module("monai_jdt.cli.bundle_start")
    assert all(getattr(former, name) is getattr(bundle_start, name) for name in former.__all__)
