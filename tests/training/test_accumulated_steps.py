from typing import Any

import pytest
import torch
from ignite.engine import Events
from monai.engines import SupervisedTrainer
from torch.utils.data import DataLoader

from monai_jdt.handlers import GradientClip
from monai_jdt.teachers import MeanTeacher
from monai_jdt.training.accumulated_steps import AccumulatedSteps, place_in_step

IMAGES = torch.tensor([[1.0, 2.0], [-1.0, 0.5], [3.0, 1.0], [0.0, -2.0], [2.0, 2.0]])
LABELS = torch.tensor([[1.0], [0.0], [2.0], [-1.0], [0.5]])


def loader() -> DataLoader[Any]:
    items: Any = [{"image": x, "label": y} for x, y in zip(IMAGES, LABELS, strict=True)]
    return DataLoader(items, batch_size=1)


def network() -> torch.nn.Linear:
    made = torch.nn.Linear(2, 1)
    with torch.no_grad():
        made.weight.copy_(torch.tensor([[0.5, -0.25]]))
        made.bias.zero_()
    return made


def trained(count: int, epochs: int = 2, *, clip: float | None = None, scaler: Any = None, loss: Any = None) -> torch.nn.Linear:
    made = network()
    trainer = SupervisedTrainer(
        device="cpu",
        max_epochs=epochs,
        train_data_loader=loader(),
        network=made,
        optimizer=torch.optim.SGD(made.parameters(), lr=0.1),
        loss_function=loss or torch.nn.MSELoss(),
        iteration_update=AccumulatedSteps(count),
        train_handlers=[] if clip is None else [GradientClip(clip, accumulate=count)],
    )
    trainer.add_event_handler(Events.STARTED, lambda engine: setattr(engine, "scaler", scaler))  # which MONAI makes at the start
    trainer.run()
    return made


def by_hand(count: int, epochs: int = 2, clip: float | None = None) -> torch.nn.Linear:
    """Steps of batches of `count` images, the last of an epoch smaller."""
    made = network()
    for _ in range(epochs):
        for start in range(0, 5, count):
            images, labels = IMAGES[start : start + count], LABELS[start : start + count]
            error = (made(images) - labels).detach()
            slope = 2 * (error * images).mean(0, keepdim=True)  # of the mean squared error
            offset = 2 * error.mean(0)
            norm = float(torch.cat([slope.flatten(), offset]).norm())
            share = 1.0 if clip is None or norm <= clip else clip / norm
            with torch.no_grad():
                made.weight.sub_(0.1 * share * slope)
                made.bias.sub_(0.1 * share * offset)
    return made


def assert_same(one: torch.nn.Linear, other: torch.nn.Linear) -> None:
    torch.testing.assert_close(one.weight, other.weight, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(one.bias, other.bias, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("clip", [None, 0.5])
@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_a_step_of_several_batches_is_that_of_one_large_batch(count: int, clip: float | None) -> None:
    expected = by_hand(count, clip=clip)
    assert_same(trained(count, clip=clip), expected)
    # the same with a scaled loss, whose gradient is divided before it is clipped
    assert_same(trained(count, clip=clip, scaler=torch.amp.GradScaler("cpu", init_scale=1024.0)), expected)


def test_a_step_whose_gradient_overflows_is_left_out() -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127)  # beyond float32 with any slope above 2
    made = trained(5, epochs=1, clip=1.0, scaler=scaler, loss=lambda pred, label: 8 * (pred - label).square().sum())
    assert_same(made, network())
    assert scaler.get_scale() == 2.0**126


def test_the_moving_average_moves_with_the_steps_alone() -> None:
    made = network()
    optimizer = torch.optim.SGD(made.parameters(), lr=0.1)
    average = MeanTeacher(made, decay=0.5, warm_up=False)
    average.follow(made, optimizer)
    SupervisedTrainer("cpu", 1, loader(), made, optimizer, torch.nn.MSELoss(), iteration_update=AccumulatedSteps(3)).run()
    assert int(average.average.n_averaged) == 1 + 2  # five batches are two steps


def test_places() -> None:
    assert [place_in_step(n, 5, 3) for n in range(1, 8)] == [(0, 3), (1, 3), (2, 3), (0, 2), (1, 2), (0, 3), (1, 3)]


@pytest.mark.parametrize(("count", "error"), [(0, ValueError), (1.5, TypeError), (True, TypeError)])
def test_a_count_that_is_none_is_refused(count: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="count: expected"):
        AccumulatedSteps(count)
