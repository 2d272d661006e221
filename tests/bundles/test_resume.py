"""A training that was killed goes on after its last complete epoch, and ends with the weights of one that was not."""

from __future__ import annotations

import csv
import errno
import multiprocessing
import os
import random
import shutil
import signal
import time
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from monai_jdt.data import qubiq_datalist, write_brats_phantoms, write_datalist, write_qubiq_phantoms
from tests.bundles import test_brats_bundle as brats
from tests.bundles import test_lidc_bundle as lidc
from tests.bundles import test_qubiq_bundle as qubiq
from tests.bundles.lidc_set import write_lidc_set

# ends the process, or this training alone, in a step; draws of the network are part of an epoch
STOP = """
_stop_at: 0
_stop: "$lambda engine: 1 / (engine.state.iteration - @_stop_at)"
+train#handlers:
- {_target_: monai.handlers.StatsHandler, epoch_log: false, iteration_print_logger: '@_stop'}
"""
KILL = STOP.replace(
    "1 / (engine.state.iteration - @_stop_at)", "os.kill(os.getpid(), 9) if engine.state.iteration == @_stop_at else None"
)
BUNDLES: dict[str, ModuleType] = {"brats": brats, "qubiq": qubiq, "lidc": lidc}
# each bundle's own way to draw: a rater for each crop, an axis to flip
DRAWS: dict[str, dict[str, Any]] = {"brats": {"label_source": "random_rater"}, "qubiq": {"batch_size": 1}, "lidc": {}}


def write_data(name: str, root: Path) -> str:
    if name == "brats":
        return write_brats_phantoms(root / "set", cases=4, shape=(16, 16, 16), progress=False)
    if name == "lidc":
        return write_lidc_set(root / "set")
    return write_qubiq_phantoms(root / "set", datasets="prostate", cases=4, shape=(16, 16), progress=False)


class Trainings:
    """Runs of one bundle on one set of phantoms, each in its own folder."""

    def __init__(self, root: Path, name: str, *overlays: str) -> None:
        self.root, self.bundle, self.overlays = root, BUNDLES[name], overlays
        self.overlay = root / "stop.yaml"
        self.overlay.write_text(STOP)
        self.settings: dict[str, Any] = {**self.bundle.TINY, **DRAWS[name], "epochs": 3, "dataset_dir": write_data(name, root)}

    def train(self, folder: str, **given: Any) -> Path:
        settings = {**self.settings, **given}
        self.bundle.start("train.yaml", *self.overlays, str(self.overlay), root=self.root / folder, **settings)
        return self.root / folder

    def stopped(self, folder: str, step: int, **given: Any) -> Path:
        with pytest.raises(RuntimeError):  # as MONAI wraps it
            self.train(folder, _stop_at=step, **given)
        return self.root / folder


def train_alone(name: str, overlays: tuple[str, ...], root: Path, settings: dict[str, Any]) -> None:
    """What a process of its own does."""
    torch.set_num_threads(1)
    BUNDLES[name].start("train.yaml", *overlays, root=root, **settings)


def started(name: str, *overlays: str | Path, root: Path, **settings: Any) -> BaseProcess:
    """Start a training in a process of its own. All of them are forked from one that has imported what they need, and done nothing."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    process = context.Process(target=train_alone, args=(name, tuple(map(str, overlays)), root, settings), daemon=True)
    process.start()
    return process


def states(root: Path, name: str = "last.pt") -> Any:
    return torch.load(root / "models" / name, weights_only=True)


def assert_same(one: Any, other: Any, path: str = "") -> None:
    assert type(one) is type(other), path
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other), path
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), path
        for key in one:
            assert_same(one[key], other[key], f"{path}/{key}")
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other), path
        for number, (first, second) in enumerate(zip(one, other, strict=True)):
            assert_same(first, second, f"{path}/{number}")
    else:
        assert one == other, path


def assert_same_weights(one: Path, other: Path) -> None:
    assert states(one)["epoch"] == states(other)["epoch"]
    assert_same(states(one)["states"], states(other)["states"])
    assert_same(states(one, "model.pt"), states(other, "model.pt"))


def assert_same_training(one: Path, other: Path) -> None:
    assert_same_weights(one, other)
    scores = [states(root, "model.pt")._metadata[""]["monai_jdt_score"] for root in (one, other)]  # with its epoch
    assert scores[0] == scores[1]
    assert (one / "eval" / "training.csv").read_text() == (other / "eval" / "training.csv").read_text()
    assert (one / "models" / "model.json").read_text() == (other / "models" / "model.json").read_text()


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Trainings:
    made = Trainings(tmp_path_factory.mktemp("resume"), "brats")
    made.train("whole", ema_decay=0.9, clip_norm=1.0, accumulate=2)
    return made


def test_it_ends_as_one_that_was_not_stopped(runs: Trainings, caplog: pytest.LogCaptureFixture) -> None:
    own = {"ema_decay": 0.9, "clip_norm": 1.0, "accumulate": 2}
    broken = runs.stopped("broken", 8, **own)  # in the third epoch of three steps
    assert states(broken)["epoch"] == 2
    runs.train("broken", resume=True, num_workers=2, **own)
    assert states(broken)["epoch"] == 3
    assert_same_training(runs.root / "whole", broken)
    rows = [(row["epoch"], row["name"]) for row in csv.DictReader((broken / "eval" / "training.csv").open())]
    assert len(set(rows)) == len(rows)
    assert {epoch for epoch, _ in rows} == {"1", "2", "3"}


def test_another_training_is_refused_in_one_line(runs: Trainings, capsys: pytest.CaptureFixture[str]) -> None:
    own: dict[str, Any] = {"ema_decay": 0.9, "clip_norm": 1.0, "accumulate": 2, "resume": True}
    before = {path: path.stat().st_mtime_ns for path in (runs.root / "whole").rglob("*")}
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"loss#lambda_jdt": 0.5}, "loss#lambda_jdt: expected 0.75, as in the training of "),
        ({"val_fraction": 0.5}, "training cases: expected 3, as in the training of "),
        ({"epochs": 2}, "epochs: expected at least 3, got 2, and 3 are done. Fix: --epochs 3"),
    ]
    for change, line in wrong:
        with pytest.raises(SystemExit) as caught:
            runs.train("whole", **{**own, **change})
        assert caught.value.code == 1
        assert capsys.readouterr().err.startswith(f"monai_jdt: error: {line}")
    assert {path: path.stat().st_mtime_ns for path in (runs.root / "whole").rglob("*")} == before


def test_a_true_kill_and_what_begins_in_its_place(runs: Trainings) -> None:
    root = runs.root / "killed"
    overlay = runs.root / "kill.yaml"
    overlay.write_text(KILL)
    process = started("brats", overlay, root=root, **{**runs.settings, "_stop_at": 5})
    process.join(240)
    assert process.exitcode == -signal.SIGKILL
    assert states(root)["epoch"] == 1
    # without `resume` another one begins, and the killed one is kept
    runs.stopped("killed", 2)
    assert sorted(os.listdir(root / "models")) == ["earlier"]
    assert sorted(os.listdir(root / "models" / "earlier")) == ["last.pt", "model.json", "model.pt"]
    runs.train("killed", resume=True, ckpt_dir=str(root / "models" / "earlier"))
    assert torch.load(root / "models" / "earlier" / "last.pt", weights_only=True)["epoch"] == 3


def test_a_better_model_is_never_replaced_by_a_worse_one(runs: Trainings, monkeypatch: pytest.MonkeyPatch) -> None:
    # killed after the weights of a validation were written, and before its checkpoint: the same epoch, validated again, is worse
    root = runs.stopped("better", 5)
    best = root / "models" / "model.pt"
    held = states(root, "model.pt")
    held._metadata[""]["monai_jdt_score"] = [0.99, 2]
    torch.save(held, best)
    before = best.read_bytes()
    runs.train("better", resume=True, temperature=1.5)  # which bears on validation alone
    assert best.read_bytes() == before


def test_the_weights_of_a_finished_training_do_not_outlive_the_next_one(runs: Trainings) -> None:
    root = runs.root / "anew"
    shutil.copytree(runs.root / "whole", root)
    held = states(root, "model.pt")
    held._metadata[""]["monai_jdt_score"] = [0.99, 3]
    torch.save(held, root / "models" / "model.pt")
    runs.stopped("anew", 5, val_interval=3)  # in its second epoch, before its first validation
    assert states(root)["epoch"] == 1
    runs.train("anew", val_interval=3, resume=True)
    before, now = (found._metadata[""] for found in (held, states(root, "model.pt")))
    assert now["monai_jdt_training"] == states(root)["training_id"] != before["monai_jdt_training"]
    assert now["monai_jdt_score"][0] < 0.99
    assert_same(states(root, "model.pt"), states(root)["states"]["network"])


def test_a_full_disk_is_one_line_and_the_training_goes_on_later(
    runs: Trainings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from monai_jdt.training import checkpoints

    root = runs.stopped("full", 5)
    before = (root / "models" / "last.pt").read_bytes()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "_write_tensors", full)
        with pytest.raises(SystemExit) as caught:
            runs.train("full", resume=True)
    assert caught.value.code == 1
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("monai_jdt: error: ")
    assert "No space left on device. Fix: make room" in last
    assert (root / "models" / "last.pt").read_bytes() == before


MEAN_TEACHER = "overlays/mean_teacher.yaml"


def assert_same_teacher(one: Path, other: Path) -> None:
    assert_same_training(one, other)
    held = states(other)["states"]
    student, teacher = held["network"], {key.removeprefix("average.module."): value for key, value in held["average"].items()}
    assert any(not torch.equal(value, teacher[key]) for key, value in student.items())
    if states(other, "model.pt")._metadata[""]["monai_jdt_score"][1] == states(other)["epoch"]:
        assert_same(dict(states(other, "model.pt")), {key: teacher[key] for key in student})


def test_a_mean_teacher_goes_on_with_its_cases_without_a_label(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = Trainings(tmp_path, "qubiq", MEAN_TEACHER)
    items = qubiq_datalist(made.settings.pop("dataset_dir"), "prostate", 1)

    def listed(name: str, *unlabelled: int) -> str:
        sections = {"training": items[:1], "validation": items[1:2]}
        without = [{"case": items[number]["case"], "image": items[number]["image"]} for number in unlabelled]
        return write_datalist({**sections, "unlabelled": without}, tmp_path / f"{name}.json")

    same, other = listed("same", 2, 3), listed("other", 3, 2)
    whole = made.train("whole", datalist=same)
    broken = made.stopped("broken", states(whole)["iteration"], datalist=same)
    assert states(broken)["epoch"] == 2
    with pytest.raises(SystemExit):
        made.train("broken", datalist=other, resume=True)
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith(f"monai_jdt: error: cases without a label#0: expected {items[2]['case']!r}, as in the training of ")
    made.train("broken", datalist=same, resume=True)
    assert_same_teacher(whole, broken)


@pytest.mark.long
@pytest.mark.parametrize("name", ["brats", "qubiq", "lidc"])
def test_a_mean_teacher_goes_on_after_a_true_kill(name: str, tmp_path: Path) -> None:
    made = Trainings(tmp_path, name, MEAN_TEACHER)
    whole, root = made.train("whole"), tmp_path / "killed"
    (tmp_path / "kill.yaml").write_text(KILL)
    length = states(whole)["iteration"] // 3
    for step in (length + 1, 2 * length + 1):
        process = started(name, MEAN_TEACHER, tmp_path / "kill.yaml", root=root, **made.settings, _stop_at=step, resume=True)
        process.join(240)
        assert process.exitcode == -signal.SIGKILL
    assert states(root)["epoch"] == 2
    made.train("killed", resume=True)
    assert_same_teacher(whole, root)


@pytest.mark.long
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("name", ["brats", "qubiq", "lidc"])
def test_every_bundle_goes_on(name: str, workers: int, tmp_path: Path) -> None:
    made = Trainings(tmp_path, name)
    own: dict[str, Any] = {"num_workers": workers, "val_interval": 2, "accumulate": 2, "clip_norm": 1.0, "ema_decay": 0.9}
    whole = made.train("whole", **own)
    length = states(whole)["iteration"] // 3
    for step in (1, length + 1, 3 * length):
        broken = made.stopped(f"broken{step}", step, **own)
        made.train(f"broken{step}", resume=True, **own)
        assert_same_training(whole, broken)


def _wait_for_checkpoints(process: BaseProcess, root: Path, count: int) -> None:
    """Wait until a training has begun, and then has written so many checkpoints, or has ended."""
    path, logs = root / "models" / "last.pt", set(root.rglob("events.*"))
    while process.is_alive() and set(root.rglob("events.*")) == logs:
        time.sleep(0.05)  # it starts and reads its cases
    seen = path.stat().st_mtime_ns if path.exists() else None
    while count and process.is_alive():
        time.sleep(0.005)
        now = path.stat().st_mtime_ns if path.exists() else None
        count, seen = count - (now != seen), now


@pytest.mark.long
def test_twenty_kills_at_random_moments(tmp_path: Path) -> None:
    made = Trainings(tmp_path, "qubiq")
    whole = made.train("whole", epochs=30)
    root = tmp_path / "killed"
    settings = {**made.settings, "epochs": 30, "resume": True}
    rng = random.Random(0)
    kills, reached = 0, []
    while kills < 20:
        process = started("qubiq", made.overlay, root=root, **settings)
        # so many epochs later, and some time after that
        _wait_for_checkpoints(process, root, rng.randrange(4))
        time.sleep(rng.uniform(0, 0.3))
        process.kill()
        process.join()
        if process.exitcode == -signal.SIGKILL:
            kills += 1
            reached.append(states(root)["epoch"] if (root / "models" / "last.pt").exists() else 0)
            continue
        assert process.exitcode == 0
        assert_same_weights(whole, root)
        shutil.rmtree(root / "models")  # done before the last kill: once more
    assert len(set(reached)) > 3  # they fell into different epochs
    process = started("qubiq", made.overlay, root=root, **settings)
    process.join(900)
    assert process.exitcode == 0
    assert_same_weights(whole, root)


@pytest.mark.long
def test_more_epochs_have_the_learning_rate_of_the_longer_training(tmp_path: Path) -> None:
    made = Trainings(tmp_path, "qubiq")
    short, long = made.train("short"), made.train("long", epochs=6)
    made.train("short", epochs=6, resume=True)
    rates = [states(root)["states"]["optimizer"]["param_groups"][0]["lr"] for root in (short, long)]
    assert rates[0] == pytest.approx(rates[1])
    assert states(short)["states"]["lr_scheduler"]["T_max"] == 6
