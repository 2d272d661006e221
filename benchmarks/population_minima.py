"""Which p a loss asks for at voxels that look alike while their labels differ. docs/what_p_means.md shows the answers.

A network sees an image, and not the label. Of voxels that look alike it can only predict one p, whatever their labels are. A
*population* holds such voxels, and others whose prediction is fixed. `minimiser` finds the p that makes a loss of the whole
population smallest, by search on the loss itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

#: The logit of a prediction of 1. Its sigmoid is 1 in float64, and its exponential is finite.
SURE = 40.0


@dataclass(frozen=True)
class Voxels:
    """Voxels with one label.

    Args:
        label: in [0, 1].
        count: how many.
        prediction: in [0, 1]; None: they look like all other voxels that have None, and get the common p.
    """

    label: float
    count: int
    prediction: float | None = None


#: Images of as many voxels each.
Population = Sequence[Sequence[Voxels]]


def right(label: float, count: int) -> Voxels:
    """Return voxels that are predicted as their label."""
    return Voxels(label, count, label)


def alike(shares: dict[float, float], count: int) -> list[Voxels]:
    """Return `count` voxels that look alike.

    Args:
        shares: of each label among them; they add to 1.
        count: such that every share is a whole number of voxels.

    Raises:
        ValueError: a share that is no whole number of voxels.
    """
    parts = [Voxels(label, round(share * count)) for label, share in shares.items()]
    if any(abs(part.count - share * count) > 1e-6 for part, share in zip(parts, shares.values(), strict=True)):
        raise ValueError(f"shares {shares} of {count} voxels are no whole numbers")
    return [part for part in parts if part.count]


def label_of(population: Population) -> torch.Tensor:
    """Return the labels `(N, 1, voxels)` in float64."""
    return torch.tensor([[[part.label for part in image for _ in range(part.count)]] for image in population], dtype=torch.float64)


def fixed_prediction_of(population: Population) -> torch.Tensor:
    """Return the fixed predictions `(N, 1, voxels)`, NaN where the common p is predicted."""
    rows = [[float("nan") if v.prediction is None else v.prediction for v in image for _ in range(v.count)] for image in population]
    return torch.tensor(rows, dtype=torch.float64)[:, None]


def losses_at(loss: Loss, population: Population, p: torch.Tensor, activation: str) -> torch.Tensor:
    """Return the loss of a population for each common p.

    Args:
        loss: called with input and label. It must allow `torch.vmap`, as ours do with `backend="eager"`.
        population: what is predicted.
        p: `(K)`, in (0, 1), float64.
        activation: what the loss does to its input: "none", "sigmoid", or "softmax", then of two channels, background first.

    Returns:
        `(K)`.
    """
    label, fixed = label_of(population), fixed_prediction_of(population)
    if activation == "softmax":
        label = torch.cat([1 - label, label], 1)

    def value(one: torch.Tensor) -> torch.Tensor:
        prediction = torch.where(fixed.isnan(), one, fixed)
        if activation == "none":
            return loss(prediction, label).reshape(())
        logits = (prediction.log() - (-prediction).log1p()).clamp(-SURE, SURE)
        if activation == "softmax":
            logits = torch.cat([torch.zeros_like(logits), logits], 1)
        return loss(logits, label).reshape(())

    return torch.vmap(value, chunk_size=201)(p)


def minimiser(loss: Loss, population: Population, activation: str, *, nearest: float = 1e-9) -> float:
    """Return the common p at which a loss is smallest, within 1e-5.

    A grid of 201 values finds the neighbourhood, three finer ones the place.

    Args:
        loss: see `losses_at`.
        population: what is predicted.
        activation: see `losses_at`.
        nearest: how near to 0 and 1 the search goes.
    """
    low, high = 0.0, 1.0
    for points in (201, 41, 41, 41):
        grid = torch.linspace(low, high, points, dtype=torch.float64).clamp(nearest, 1 - nearest)
        best = float(grid[losses_at(loss, population, grid, activation).argmin()])
        step = (high - low) / (points - 1)
        low, high = max(best - step, 0.0), min(best + step, 1.0)
    return best
