"""loss_for_metric: the recommended loss is one minus the metric on hard predictions."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import monai_jdt.losses as losses

seeds = st.integers(0, 10**6)


def hard_metric(kind: str, average: str, predicted: np.ndarray, label: np.ndarray) -> float:
    """mean over classes that the label has, of Dice or Jaccard, from counts: arXiv:2310.19252's mIoU^D, mIoU^I, mIoU^C."""

    def score(rows: Iterable[int], c: int) -> float:
        tp = sum(((predicted[i] == c) & (label[i] == c)).sum() for i in rows)
        wrong = sum(((predicted[i] == c) != (label[i] == c)).sum() for i in rows)
        return tp / (tp + wrong * (0.5 if kind == "mDice" else 1.0))

    n, classes = len(label), range(3)
    present = {(i, c) for i, c in itertools.product(range(n), classes) if (label[i] == c).any()}
    if average == "dataset":
        return float(np.mean([score(range(n), c) for c in classes if any((i, c) in present for i in range(n))]))
    first, second = (range(n), classes) if average == "image" else (classes, range(n))
    pairs = [[(i, c) if average == "image" else (c, i) for c in second] for i in first]
    rows = [[score([i], c) for i, c in row if (i, c) in present] for row in pairs]
    return float(np.mean([np.mean(row) for row in rows if row]))


@pytest.mark.parametrize("metric", ["mDice", "mIoU"])
@pytest.mark.parametrize("average", ["dataset", "image", "class"])
@given(seed=seeds)
def test_the_recommended_loss_is_one_minus_the_metric_on_hard_predictions(metric: str, average: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    label, predicted = rng.integers(0, 3, (2, 8)), rng.integers(0, 3, (2, 8))
    label[0][label[0] == 2] = 1  # the first image lacks a class
    arguments = losses.loss_for_metric(metric, average=average, labels="hard")
    p = torch.nn.functional.one_hot(torch.from_numpy(predicted), 3).movedim(-1, 1).double()
    loss = losses.JDTLoss(to_onehot_y=True, smooth_nr=0, smooth_dr=0, **arguments)(p, torch.from_numpy(label)[:, None])
    assert loss.item() == pytest.approx(1 - hard_metric(metric, average, predicted, label), abs=1e-12)


def test_loss_for_metric_arguments() -> None:
    assert losses.loss_for_metric("mDice", average="image")["alpha"] == 0.5
    assert losses.loss_for_metric("mIoU")["average"] == "dataset"
    f2 = losses.loss_for_metric("F2")
    assert (f2["alpha"], f2["beta"]) == (0.2, 0.8)  # F_b = (1 + b^2) tp / ((1 + b^2) tp + b^2 fn + fp)
    for wrong in ("Hausdorff", "F0", ""):
        with pytest.raises(ValueError, match="metric"):
            losses.loss_for_metric(wrong)
    with pytest.raises(ValueError, match="average"):
        losses.loss_for_metric("mDice", average="voxel")
    weights = {"image": 0.5, "class": 0.5}
    losses.JDTLoss(softmax=True, **losses.loss_for_metric("mIoU", average=weights))
    assert weights == {"image": 0.5, "class": 0.5}
