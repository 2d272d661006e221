import random

import numpy as np
import pytest
import torch
from ignite.engine import Engine

from monai_jdt.handlers import StepSeed


def draws(start: int, seed: int = 0) -> list[tuple[float, ...]]:
    """What two steps of each of two epochs draw; the generators were in any state."""
    torch.manual_seed(start)
    found: list[tuple[float, ...]] = []
    engine = Engine(lambda _engine, _batch: found.append((float(torch.rand(())), random.random(), np.random.rand())))
    StepSeed(seed).attach(engine)
    engine.run([0, 1], max_epochs=2)
    return found


def test_the_draws_of_a_step_follow_from_seed_and_step() -> None:
    assert draws(1) == draws(2)
    assert len(set(draws(1)) | set(draws(1, seed=1))) == 8


def test_ranks_draw_differently(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = draws(1)
    monkeypatch.setattr("monai_jdt.handlers.step_seed.ranks_here", lambda: (1, 2))
    assert not set(alone) & set(draws(1))
