"""The level is that of the search of `functional`, on what an evaluator's items hold."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from ignite.engine import Engine

from monai_jdt.handlers import EmptyLevelSearch


def item(expected: list[float], pred: Any, majority: Any) -> dict[str, torch.Tensor]:
    return {"pred_expected": torch.tensor(expected), "pred": torch.tensor(pred), "majority": torch.tensor(majority)}


# two channels: a mark where nothing is, a faint hit, a sure hit, and nothing where nothing is
ITEMS = [
    item([0.2, 0.4], [[1, 0, 0], [1, 1, 0]], [[0, 0, 0], [1, 0, 0]]),
    item([0.8, 0.9], [[1, 1, 0], [0, 0, 0]], [[1, 1, 0], [0, 0, 0]]),
]


@pytest.mark.parametrize(("kind", "faint"), [("dice", 2 / 3), ("jaccard", 1 / 2)])
def test_the_best_level_is_logged(kind: str, faint: float, caplog: Any) -> None:
    search = EmptyLevelSearch(kind)

    def step(engine: Engine, one: Any) -> list[dict[str, Any]]:
        engine.state.batch = [{}]  # type: ignore[assignment]
        return [one]

    engine = Engine(step)
    search.attach(engine)
    with caplog.at_level(logging.INFO, logger="monai_jdt"):
        for _ in range(2):  # a second run starts anew
            engine.run(ITEMS)
    # between .2 and .4: the first mask is emptied and scores 1
    assert search.level == pytest.approx(0.3)
    name = kind.capitalize()
    line = (
        f"empty_below 0.3 is best for these 4 masks: mean {name} with the majority {(3 + faint) / 4:.4f}, with 0 {(2 + faint) / 4:.4f}"
    )
    assert caplog.messages[-1] == line
