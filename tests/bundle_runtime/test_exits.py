import os
from collections.abc import Callable
from pathlib import Path
from pickle import UnpicklingError
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from monai.handlers import CheckpointLoader

import monai_jdt.bundle_runtime as bundle_start
from monai_jdt.cli.bundle import copy_bundle, shipped_bundles
from monai_jdt.data import ensure_brats_phantoms
from monai_jdt.data.problems import DataProblem, DataProblemError
from monai_jdt.handlers import NonFiniteLossError


def last_line(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err.rstrip("\n").splitlines()[-1]


def test_or_exit(capsys: pytest.CaptureFixture[str]) -> None:
    assert bundle_start.exit_on_error(max, 1, 2) == 2

    def fail() -> None:
        raise DataProblemError([DataProblem(f"{c}.nii.gz", "a", "b", "c") for c in "xyz"])

    with pytest.raises(SystemExit) as caught:
        bundle_start.exit_on_error(fail)
    assert caught.value.code == 1
    lines = capsys.readouterr().err.splitlines()
    assert [line[:8] for line in lines[:3]] == ["x.nii.gz", "y.nii.gz", "z.nii.gz"]
    assert lines[3].startswith("monai_jdt: error: 3 problems in the data, the first: x.nii.gz")
    with pytest.raises(KeyError):  # not one of ours: a traceback helps more
        bundle_start.exit_on_error({}.__getitem__, "a")


@pytest.mark.parametrize("error", [NonFiniteLossError("the loss is nan"), DataProblemError([DataProblem(*"abcd")])])
def test_run_or_exit_finds_what_was_wrapped(capsys: pytest.CaptureFixture[str], error: DataProblemError | NonFiniteLossError) -> None:
    class Engine:
        def run(self) -> None:
            try:
                raise error
            except Exception as inner:
                raise RuntimeError("applying transform") from inner

    with pytest.raises(SystemExit) as caught:
        bundle_start.run_or_exit(Engine())
    assert caught.value.code == 1
    assert last_line(capsys) == f"monai_jdt: error: {error}"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            UnpicklingError("Weights only load failed. In PyTorch 2.6"),
            "the checkpoint: expected weights that PyTorch has saved, got a file that ",
        ),
        (MemoryError("137438953472 bytes"), "memory: expected enough for a step, got 137438953472 bytes. Fix: smaller crops"),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"),
            "memory: expected enough for a step, got DefaultCPUAllocator",
        ),
        (
            OSError("eval/a.csv: expected a place that can be written to, got No space left on device"),
            "eval/a.csv: expected a place that can be written to, got No space left on device",
        ),
        (
            ValueError("target: expected shape (2, 3), the shape of input, got (2, 1)"),
            "target: expected shape (2, 3), the shape of input, got (2, 1)",
        ),
        (
            RuntimeError("Error(s) in loading state_dict for Net:\n size mismatch"),
            "the checkpoint: expected weights that fit the network, got others",
        ),
    ],
)
def test_what_a_user_can_mend_is_one_line(capsys: pytest.CaptureFixture[str], error: Any, line: str) -> None:
    class Engine:
        def run(self) -> None:
            raise RuntimeError("in a handler") from error

    with pytest.raises(SystemExit):
        bundle_start.run_or_exit(Engine())
    assert last_line(capsys).startswith(f"monai_jdt: error: {line}")


def test_run_or_exit_passes_other_errors_on() -> None:
    class Engine:
        def run(self) -> None:
            raise ValueError("size mismatch")

    with pytest.raises(ValueError, match="size mismatch"):
        bundle_start.run_or_exit(Engine())


def test_data_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    phantoms = bundle_start.data_folder(None, str(tmp_path / "data"), ensure_brats_phantoms, cases=1, shape=[12, 12, 12])
    assert os.listdir(phantoms)
    assert bundle_start.data_folder(phantoms, "unused", ensure_brats_phantoms) == phantoms
    (tmp_path / "empty").mkdir()
    for name in ("absent", "empty"):
        with pytest.raises(SystemExit):
            bundle_start.data_folder(str(tmp_path / name), str(tmp_path / "never"), ensure_brats_phantoms)
        assert f"dataset_dir {tmp_path / name}" in last_line(capsys)
    assert not (tmp_path / "never").exists()


def test_a_bundle_is_copied_once(tmp_path: Path) -> None:
    assert "brats_multirater_segmentation" in shipped_bundles()
    copy = copy_bundle("brats_multirater_segmentation", tmp_path / "deep" / "mine")
    assert sorted(os.listdir(copy)) == ["LICENSE", "configs", "docs"]
    assert os.listdir(tmp_path / "deep") == ["mine"]
    with pytest.raises(FileExistsError, match="mine"):
        copy_bundle("brats_multirater_segmentation", copy)
    with pytest.raises(ValueError, match="among"):
        copy_bundle("brats", tmp_path / "x")


def save_truncated(path: Path) -> None:
    torch.save({"weight": torch.zeros(1000)}, path)
    path.write_bytes(path.read_bytes()[:900])


CHECKPOINTS: dict[str, Callable[[Path], object]] = {
    "text": lambda path: path.write_text("hello"),
    "empty": lambda path: path.touch(),
    "truncated": save_truncated,
    "list": lambda path: torch.save([1], path),
    "tensor": lambda path: torch.save(torch.zeros(3), path),
    "module": lambda path: torch.save(torch.nn.Conv2d(1, 1, 1), path),
    "other weights": lambda path: torch.save({"bias": torch.zeros(3)}, path),
}


@pytest.mark.parametrize("kind", CHECKPOINTS)
def test_a_checkpoint_of_any_other_kind_is_one_line(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    CHECKPOINTS[kind](tmp_path / "model.pt")
    loader = CheckpointLoader(load_path=str(tmp_path / "model.pt"), load_dict={"model": torch.nn.Linear(1, 1)})

    class Engine:
        def run(self) -> None:
            engine: Any = SimpleNamespace(logger=None, state=SimpleNamespace(max_epochs=1, epoch=0))
            loader(engine)

    with pytest.raises(SystemExit) as caught:
        bundle_start.run_or_exit(Engine())
    assert caught.value.code == 1
    line = last_line(capsys)
    assert line.startswith("monai_jdt: error: the checkpoint: expected weights that ")
    assert len(line) < 500


def test_a_data_problem_in_a_process_of_the_loader_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    class Broken(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return 1

        def __getitem__(self, number: int) -> None:
            try:
                raise DataProblemError([DataProblem("scan.nii.gz", "a whole file", "half of one", "copy it again")])
            except DataProblemError as error:
                raise RuntimeError("applying transform") from error

    class Engine:
        def run(self) -> None:
            list(torch.utils.data.DataLoader(Broken(), num_workers=1))

    with pytest.raises(SystemExit):
        bundle_start.run_or_exit(Engine())
    assert last_line(capsys) == "monai_jdt: error: scan.nii.gz: expected a whole file, got half of one. Fix: copy it again."
