"""Stacks of the same number of raters."""

import pytest
import torch

from monai_jdt.transforms import PadRaters, PadRatersd
from tests.transforms.stacks import AFFINE, draw


def test_padding() -> None:
    votes = draw()
    padded, weights = PadRaters(4, value=2)(votes)
    assert torch.equal(padded.as_tensor()[:3], votes.as_tensor())
    assert padded[3].unique().tolist() == [2]
    assert padded.dtype == votes.dtype
    assert torch.equal(padded.affine, AFFINE)
    assert weights.tolist() == [1, 1, 1, 0]
    own = PadRatersd("votes", 4, weights_key="w")({"votes": votes, "w": [0.5, 0, 2]})
    assert own["w"].tolist() == [0.5, 0, 2, 0]
    nobody, none = PadRaters(2)(torch.zeros(0, 3, dtype=torch.uint8))
    assert nobody.shape == (2, 3)
    assert none.tolist() == [0, 0]
    with pytest.raises(ValueError, match="at most 2 raters, got 3"):
        PadRaters(2)(votes)
    with pytest.raises(ValueError, match="at least 1"):
        PadRaters(0)
    with pytest.raises(ValueError, match="one weight for each of 3"):
        PadRaters(4)(votes, [1.0])
