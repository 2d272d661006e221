from typing import Any

import pytest
import torch
from ignite.engine import Engine
from monai.data import MetaTensor

from monai_jdt.handlers import NonFiniteLossError, NonFiniteLossStop


def run(losses: list[float], batch: dict[str, Any] | list[dict[str, Any]] | tuple[torch.Tensor, torch.Tensor]) -> int | None:
    engine = Engine(lambda engine, x: {"loss": torch.tensor(losses[engine.state.iteration - 1])})
    NonFiniteLossStop().attach(engine)
    engine.run([batch, batch], max_epochs=2)
    return engine.state.iteration


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_it_stops_at_once_and_names_the_batch(bad: Any) -> None:
    with pytest.raises(NonFiniteLossError, match=r"epoch 2, iteration 3; the batch held the cases a, b. Fix") as caught:
        run([1.0, 1.0, bad, 1.0], {"case": ["a", "b", "a"]})
    assert "\n" not in str(caught.value)


def test_finite_losses_pass() -> None:
    assert run([1.0, 0.0, -1.0, 1e30], {}) == 4


def test_names_come_from_the_files_if_there_are_no_cases() -> None:
    image = MetaTensor(torch.zeros(1, 2), meta={"filename_or_obj": ["x/a.nii.gz"]})
    with pytest.raises(NonFiniteLossError, match=r"cases x/a\.nii\.gz"):
        run([float("nan")], {"image": image})
    with pytest.raises(NonFiniteLossError, match="cases p, q"):
        run([float("nan")], [{"case": "p"}, {"case": "q"}])
    with pytest.raises(NonFiniteLossError, match="without a name"):
        run([float("nan")], (torch.zeros(1), torch.zeros(1)))
