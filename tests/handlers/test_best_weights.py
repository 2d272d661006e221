from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.metrics import Metric
from monai.engines import SupervisedEvaluator
from torch.utils.data import DataLoader

from monai_jdt.handlers import BestWeightsWriter


class _Given(Metric):
    """A metric whose values are given, one for each run."""

    def __init__(self, values: Sequence[float]) -> None:
        self.values = iter(values)
        super().__init__()

    def reset(self) -> None:
        pass

    def update(self, output: Any) -> None:
        pass

    def compute(self) -> float:
        return next(self.values)


def validated(
    path: Path, scores: Sequence[float], first: int = 1, *, resumed: bool = False, lower: bool = False, training_id: str = ""
) -> list[int]:
    """Validate once for each score, with the epoch's number as the weight. Return the epochs whose weights were there afterwards."""
    network = torch.nn.Linear(1, 1)
    items: Any = [{"image": torch.zeros(1), "label": torch.zeros(1)}]
    compare: dict[str, Any] = {"metric_cmp_fn": lambda now, best: now < best} if lower else {}
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(items),
        network=network,
        key_val_metric={"score": _Given(scores)},
        val_handlers=[BestWeightsWriter(path, network, resumed=resumed, training_id=training_id)],
        **compare,
    )
    found = []
    for epoch in range(first, first + len(scores)):
        torch.nn.init.constant_(network.weight, epoch)
        evaluator.run(epoch)
        found.append(int(torch.load(path, weights_only=True)["weight"]) if path.exists() else 0)
    return found


nan = float("nan")


def test_the_best_stays(tmp_path: Path) -> None:
    assert validated(tmp_path / "m" / "model.pt", [0.2, 0.1, 0.4, 0.4, 0.3]) == [1, 1, 3, 3, 3]
    assert validated(tmp_path / "errors.pt", [0.2, 0.3, 0.1], lower=True) == [1, 1, 3]
    assert validated(tmp_path / "late.pt", [nan, 0.1, nan, 0.05]) == [1, 2, 2, 2]


def test_a_training_that_goes_on_knows_the_score_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    validated(path, [0.2, 0.4])
    assert validated(path, [0.3, 0.5], first=3, resumed=True) == [2, 4]
    assert validated(path, [0.1], first=5) == [5]  # another training
    # strictly, into a network: the score is no weight
    torch.nn.Linear(1, 1).load_state_dict(torch.load(path, weights_only=True))


def test_the_score_of_another_training_does_not_count(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    validated(path, [0.9], training_id="a")
    # the second one was killed before its first validation
    assert validated(path, [0.5, 0.4], first=2, resumed=True, training_id="b") == [2, 2]
    assert validated(path, [0.4, 0.6], first=4, resumed=True, training_id="b") == [2, 5]


def test_weights_of_unknown_score_are_replaced_with_a_word(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "model.pt"
    torch.save({"weight": torch.zeros(1, 1)}, path)
    assert validated(path, [0.1], resumed=True) == [1]
    assert "the score of these weights is not known" in caplog.text
