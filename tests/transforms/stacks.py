"""Stacks of votes and soft labels for the tests of transforms."""

import numpy as np
import torch
from monai.data import MetaTensor

AFFINE = torch.diag(torch.tensor([2.0, 3.0, 4.0, 1.0], dtype=torch.float64))


def draw(seed: int = 0, raters: int = 3) -> MetaTensor:
    votes = np.random.default_rng(seed).choice([0, 1, 2, 4], size=(raters, 4, 5, 3), p=[0.4, 0.4, 0.1, 0.1])
    return MetaTensor(torch.from_numpy(votes.astype(np.uint8)), affine=AFFINE, meta={"filename_or_obj": "a.nii"})


def soft(seed: int, channels: int = 3, shape: tuple[int, ...] = (7, 6, 5)) -> MetaTensor:
    values = np.random.default_rng(seed).dirichlet([0.3] * channels, size=shape)
    return MetaTensor(torch.from_numpy(np.moveaxis(values, -1, 0).astype(np.float32)), affine=AFFINE)
