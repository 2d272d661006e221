import pytest
import torch
from ignite.engine import Engine

from monai_jdt.handlers import EpochLoss, LossProgressBar, mean_loss


def test_mean_loss_of_every_form() -> None:
    assert mean_loss(torch.tensor(0.5)) == 0.5
    assert mean_loss({"loss": torch.tensor([0.25, 0.75])}) == 0.5
    assert mean_loss([{"loss": torch.tensor(1.0)}, {"loss": torch.tensor(2.0)}]) == 1.5
    assert mean_loss({"total": 2.0}, "total") == 2.0
    assert mean_loss(torch.tensor(float("nan"))) != mean_loss(torch.tensor(float("nan")))


@pytest.mark.parametrize("terminal", [True, False])
def test_the_bar_shows_the_loss_in_a_terminal_only(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    monkeypatch.setattr("monai_jdt.progress_bar._is_terminal", lambda stream: terminal)
    engine = Engine(lambda engine, x: {"loss": torch.tensor(x)})
    LossProgressBar(mininterval=0).attach(engine)
    engine.run([0.25, 0.125], max_epochs=1)
    written = capsys.readouterr().err
    assert "loss=0.125" in written if terminal else written == ""


def test_no_bar_where_none_is_wanted(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monai_jdt.progress_bar._is_terminal", lambda stream: True)
    engine = Engine(lambda engine, x: {"loss": torch.tensor(x)})
    LossProgressBar(disable=True).attach(engine)
    engine.run([0.25], max_epochs=1)
    assert capsys.readouterr().err == ""


def test_the_mean_loss_of_each_epoch_is_a_metric() -> None:
    losses = iter([1.0, 2.0, 3.0, 5.0])
    engine = Engine(lambda engine, x: [{"loss": torch.tensor(next(losses))}])
    EpochLoss().attach(engine)
    seen = []
    from ignite.engine import Events

    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda e: seen.append(e.state.metrics["train_mean_loss"]))
    engine.run([0, 0], max_epochs=2)
    assert seen == pytest.approx([1.5, 4.0])
