"""The state that is written and restored; whole trainings that were stopped are in tests/bundles/test_resume.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Events
from monai.engines import SupervisedTrainer
from monai.handlers import LrScheduleHandler
from torch.utils.data import DataLoader

from monai_jdt.handlers import EpochCheckpoint
from monai_jdt.training import read_checkpoint
from tests.present import present


class _Training:
    """Two steps an epoch of a network with momentum and a falling learning rate."""

    def __init__(self, folder: Path, epochs: int, resumed: Any = None, states: dict[str, Any] | None = None) -> None:
        torch.manual_seed(0)
        self.network = torch.nn.Linear(2, 1)
        self.optimizer = torch.optim.SGD(self.network.parameters(), lr=0.5, momentum=0.9)
        self.scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, T_max=epochs)
        self.seen: list[int] = []
        items: Any = [{"image": torch.eye(2)[n], "label": torch.ones(1)} for n in (0, 1)]
        rates: Any = LrScheduleHandler
        held = {"network": self.network, "optimizer": self.optimizer, "lr_scheduler": self.scheduler, "average": None}
        self.trainer = SupervisedTrainer(
            device="cpu",
            max_epochs=epochs,
            train_data_loader=DataLoader(items, batch_size=1),
            network=self.network,
            optimizer=self.optimizer,
            loss_function=torch.nn.MSELoss(),
            train_handlers=[
                rates(self.scheduler, print_lr=False),
                EpochCheckpoint(folder, {**held, **(states or {})}, resumed),
            ],
        )
        self.trainer.add_event_handler(Events.EPOCH_STARTED, lambda engine: self.seen.append(engine.state.epoch))

    @property
    def rate(self) -> float:
        return float(self.optimizer.param_groups[0]["lr"])


def test_it_goes_on_where_it_was(tmp_path: Path) -> None:
    whole = _Training(tmp_path / "whole", 4)
    whole.trainer.run()
    first = _Training(tmp_path / "parts", 4)
    first.trainer.add_event_handler(Events.EPOCH_COMPLETED(once=2), lambda engine: engine.terminate())
    first.trainer.run()
    second = _Training(tmp_path / "parts", 4, read_checkpoint(tmp_path / "parts"))
    second.trainer.run()
    assert (first.seen, second.seen) == ([1, 2], [3, 4])
    assert torch.equal(second.network.weight, whole.network.weight)
    assert second.rate == whole.rate
    done = _Training(tmp_path / "parts", 4, read_checkpoint(tmp_path / "parts"))
    done.trainer.run()
    assert done.seen == []  # nothing is left to do
    assert torch.equal(done.network.weight, whole.network.weight)


@pytest.mark.filterwarnings("error::UserWarning:torch.optim")
def test_with_more_epochs_the_learning_rate_is_that_of_the_longer_training(tmp_path: Path) -> None:
    _Training(tmp_path, 2).trainer.run()
    longer = _Training(tmp_path, 8, read_checkpoint(tmp_path))
    rates = []
    longer.trainer.add_event_handler(Events.EPOCH_STARTED, lambda _: rates.append(longer.rate))
    longer.trainer.run()
    fresh = _Training(tmp_path / "fresh", 8)
    expected = []
    fresh.trainer.add_event_handler(Events.EPOCH_STARTED, lambda _: expected.append(fresh.rate))
    fresh.trainer.run()
    assert rates == pytest.approx(expected[2:])
    assert rates[0] == pytest.approx(0.5 * (1 + 2**-0.5) / 2)  # a quarter of the way down the cosine


def test_an_unfinished_one_is_set_aside_with_a_word(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = _Training(tmp_path, 4)
    first.trainer.add_event_handler(Events.EPOCH_COMPLETED(once=1), lambda engine: engine.terminate())
    first.trainer.run()
    _Training(tmp_path, 2).trainer.run()
    assert f"--ckpt_dir {tmp_path / 'earlier'} --resume true" in caplog.text
    assert (present(read_checkpoint(tmp_path)).epoch, present(read_checkpoint(tmp_path / "earlier")).epoch) == (2, 1)
    caplog.clear()
    _Training(tmp_path, 2).trainer.run()  # that one was finished
    assert "unfinished" not in caplog.text


def test_other_states_are_refused(tmp_path: Path) -> None:
    _Training(tmp_path, 2).trainer.run()
    other = _Training(tmp_path, 4, read_checkpoint(tmp_path), states={"teacher": torch.nn.Linear(1, 1)})
    with pytest.raises(ValueError, match=r"resume: expected states of network, .*teacher, got network, optimizer, lr_scheduler"):
        other.trainer.run()


def test_the_scaler_of_mixed_precision_goes_on(tmp_path: Path) -> None:
    def with_scaler(training: _Training, scale: float) -> Any:
        scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        # MONAI makes one at the start, before handlers are called
        training.trainer._event_handlers[Events.STARTED].insert(0, (lambda: setattr(training.trainer, "scaler", scaler), (), {}))
        return scaler

    first = _Training(tmp_path, 2)
    with_scaler(first, 64.0)
    first.trainer.run()
    second = _Training(tmp_path, 3, read_checkpoint(tmp_path))
    scaler = with_scaler(second, 2.0)
    second.trainer.run()
    assert scaler.get_scale() == 64.0


def test_ranks_with_different_checkpoints_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def as_if_another_rank_had_none(tensor: torch.Tensor, op: Any) -> None:
        tensor.copy_(torch.maximum(tensor, torch.tensor([0, 0])))

    _Training(tmp_path, 2).trainer.run()
    monkeypatch.setattr("monai_jdt.handlers.epoch_checkpoint.ranks_here", lambda: (1, 2))
    monkeypatch.setattr("monai_jdt.handlers.epoch_checkpoint.dist.all_reduce", as_if_another_rank_had_none)
    with pytest.raises(ValueError, match=r"expected the same checkpoint on all ranks, got epochs 0 and 2\. Fix: give a folder"):
        _Training(tmp_path, 4, read_checkpoint(tmp_path)).trainer.run()
