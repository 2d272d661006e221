"""The table of a training: whole after each epoch, and continued by a training that goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Engine, Events

from monai_jdt.handlers import TrainingTableWriter


def engines(path: Path, losses: list[float], *, interval: int = 2) -> tuple[Engine, Engine]:
    """A trainer whose metric is the next loss, and an evaluator whose metrics are the epoch's number, a vector and a text."""
    trainer, evaluator = Engine(lambda engine, batch: None), Engine(lambda engine, batch: None)

    @trainer.on(Events.EPOCH_COMPLETED)
    def _set_loss(engine: Engine) -> None:
        engine.state.metrics["train_loss"] = losses[engine.state.epoch - 1]

    @evaluator.on(Events.EPOCH_COMPLETED)
    def _set_score(engine: Engine) -> None:
        engine.state.epoch = trainer.state.epoch
        engine.state.metrics |= {"val_dice": torch.tensor(trainer.state.epoch / 8), "by_class": torch.zeros(2), "note": "none"}

    TrainingTableWriter(path, evaluator).attach(trainer)
    trainer.add_event_handler(Events.EPOCH_COMPLETED(every=interval), lambda _: evaluator.run([0]))
    return trainer, evaluator


def test_the_table_has_a_row_for_each_number_of_each_epoch(tmp_path: Path) -> None:
    trainer, evaluator = engines(tmp_path / "new" / "training.csv", [0.5, 0.25, float("nan")])
    trainer.run([0], max_epochs=3)
    evaluator.run([0])
    text = "epoch,name,value\n1,train_loss,0.5\n2,train_loss,0.25\n2,val_dice,0.25\n3,train_loss,nan\n3,val_dice,0.375\n"
    assert (tmp_path / "new" / "training.csv").read_text() == text


def test_a_validation_that_is_repeated_replaces_its_rows(tmp_path: Path) -> None:
    trainer, evaluator = engines(tmp_path / "training.csv", [0.5], interval=1)
    trainer.run([0], max_epochs=1)
    evaluator.run([0])
    assert (tmp_path / "training.csv").read_text() == "epoch,name,value\n1,train_loss,0.5\n1,val_dice,0.125\n"


class _Killed(BaseException):
    pass


def test_a_training_that_ends_early_leaves_the_epochs_before(tmp_path: Path) -> None:
    trainer, _ = engines(tmp_path / "training.csv", [0.5, 0.25, 0.125])

    def kill(engine: Engine) -> None:
        if engine.state.epoch == 3:
            raise _Killed

    trainer.add_event_handler(Events.ITERATION_COMPLETED, kill)
    with pytest.raises(_Killed):
        trainer.run([0], max_epochs=3)
    assert (tmp_path / "training.csv").read_text() == "epoch,name,value\n1,train_loss,0.5\n2,train_loss,0.25\n2,val_dice,0.25\n"
    assert [path.name for path in tmp_path.iterdir()] == ["training.csv"]


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("epoch,name,value\n1,train_loss,9.0\n2,train_loss,8.0\n3,val_dice,7.0\n", "1,train_loss,9.0\n"),
        ("epoch,name,value\n1,train_loss\n", ""),
        ("something else\n", ""),
    ],
)
def test_a_training_that_goes_on_keeps_the_epochs_before(tmp_path: Path, text: str, kept: str) -> None:
    (tmp_path / "training.csv").write_text(text)
    trainer, _ = engines(tmp_path / "training.csv", [0.5, 0.25], interval=5)
    resume: dict[str, Any] = {"epoch_length": 1, "max_epochs": 2, "iteration": 1}
    trainer.load_state_dict(resume)
    trainer.run([0], max_epochs=2)
    assert (tmp_path / "training.csv").read_text() == f"epoch,name,value\n{kept}2,train_loss,0.25\n"
    # another training starts its table anew
    trainer, _ = engines(tmp_path / "training.csv", [0.5], interval=5)
    trainer.run([0], max_epochs=1)
    assert (tmp_path / "training.csv").read_text() == "epoch,name,value\n1,train_loss,0.5\n"
