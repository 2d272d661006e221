"""Stacks of votes, and the published weighting in loops."""

import numpy as np
import torch

REGIONS = [(1, 4), (1, 2, 4), (4,)]


def draw(seed: int, raters: int = 3, shape: tuple[int, ...] = (5, 6)) -> torch.Tensor:
    """Raters who mostly agree, so that estimations have one answer."""
    rng = np.random.default_rng(seed)
    truth = rng.choice([0, 1, 2, 4], size=shape)
    other = rng.choice([0, 1, 2, 4], size=(raters, *shape))
    return torch.from_numpy(np.where(rng.random((raters, *shape)) < 0.25, other, truth).astype(np.int16))


def paper_weights(votes: torch.Tensor, regions: list[tuple[int, ...]], no_overlap: float) -> np.ndarray:
    """The recipe, in loops: each rater's Dice with the majority."""
    maps = votes.numpy()
    majority = [np.sum([np.isin(v, g) for v in maps], axis=0) >= len(maps) // 2 + 1 for g in regions]
    scores = []
    for rater in maps:
        marked = [np.isin(rater, g) for g in regions]
        common = sum((a & m).sum() for a, m in zip(marked, majority, strict=True))
        total = sum(a.sum() + m.sum() for a, m in zip(marked, majority, strict=True))
        scores.append(2 * common / total if common else no_overlap)
    return np.array(scores) / np.sum(scores) if np.sum(scores) else np.full(len(maps), 1 / len(maps))
