"""One rater, drawn by weight."""

import pytest
import torch

from monai_jdt.raters import (
    fuse_average,
    fuse_random,
)
from tests.raters.stacks import REGIONS, draw


def test_a_random_rater_is_a_rater_drawn_by_weight() -> None:
    votes = draw(6, 3)
    alone = [fuse_average(votes[r : r + 1], REGIONS) for r in range(3)]
    generator = torch.Generator().manual_seed(1)
    drawn = [fuse_random(votes, REGIONS, [1, 0, 3], seed=generator) for _ in range(400)]
    shares = [sum(torch.equal(label, other) for label in drawn) / 400 for other in alone]
    assert shares[1] == 0
    assert shares[0] == pytest.approx(0.25, abs=0.08)  # sd .022
    assert sum(shares) == 1
    assert torch.equal(fuse_random(votes, REGIONS, seed=5), fuse_random(votes, REGIONS, seed=5))
