"""The losses as pure functions of tensors and a recipe. The classes in `monai_jdt.losses` only store the recipe."""

from monai_jdt.functional.jdt import jdt_loss

__all__ = ["jdt_loss"]
