"""What a fast kernel is given."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from monai_jdt.definitions import VoxelRecipe


@dataclass(frozen=True)
class KernelInput:
    """The tensors of a step, space flattened to V voxels, and what to sum. A kernel changes none of them.

    Args:
        logits: `(N, C, V)`, floating point, any strides.
        label: `(N, C, V)`, `(N, 1, V)` or `(N, R, V)`, by the recipe's label form; any real dtype, any strides.
        recipe: what to sum. Its `ignore_index` is a value that the label's dtype can hold.
        mask: bool `(N, 1, V)` or `(N, C, V)`, True = counts; or None.
        rater_weights: for votes `(N, R)`, of the sums' dtype, the largest of an image 1 (or all 0).
        class_weight: `(C,)` of the sums' dtype, for the pixel term; or None.
    """

    logits: torch.Tensor
    label: torch.Tensor
    recipe: VoxelRecipe
    mask: torch.Tensor | None
    rater_weights: torch.Tensor | None
    class_weight: torch.Tensor | None

    @property
    def dtype(self) -> torch.dtype:
        """Of the sums: float32, or float64 for float64 logits."""
        return torch.promote_types(self.logits.dtype, torch.float32)
