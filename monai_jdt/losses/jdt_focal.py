"""JDT loss plus a focal loss that is right on soft labels."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from typing_extensions import Unpack

from monai_jdt.definitions import PixelRule, PixelTerm
from monai_jdt.losses._options import SharedOptions, with_full_signature
from monai_jdt.losses.jdt import JDTLoss


def _warns_of_monai_names(initialiser: Callable[..., None]) -> Callable[..., None]:
    """Warn at construction where `gamma` or `alpha` may be meant as in MONAI's DiceFocalLoss, in which they are the focal term's.

    Only a decorator sees which arguments were named: `focal_gamma=2` and the default are the same value.
    """

    @functools.wraps(initialiser)
    def checked(self: object, *args: Any, **kwargs: Any) -> None:
        initialiser(self, *args, **kwargs)
        _warn_of_monai_names(kwargs)

    return checked


def _warn_of_monai_names(named: Mapping[str, Any]) -> None:
    sentences = []
    if "gamma" in named and "focal_gamma" not in named:
        sentences.append(
            f"gamma={named['gamma']} is the exponent of the JDT term here. MONAI's gamma is focal_gamma={named['gamma']}. "
            "To keep gamma, name focal_gamma as well"
        )
    if "alpha" in named and not {"beta", "focal_alpha"} & named.keys():
        sentences.append(
            f"alpha={named['alpha']} is the cost of false positives in the JDT term here. MONAI's alpha is "
            f"focal_alpha={named['alpha']}. To keep alpha, name beta as well"
        )
    if sentences:
        warnings.warn(f"JDTFocalLoss: {'. '.join(sentences)}.", UserWarning, stacklevel=4)


@with_full_signature(JDTLoss.__init__)
class JDTFocalLoss(JDTLoss):
    r"""``lambda_jdt`` * JDT + ``lambda_focal`` * focal loss, both smallest at the label.

    The focal term of a voxel is :math:`|p - t|^g\, BCE(p, t)` for each channel with ``sigmoid``, and
    :math:`\sum_c |p_c - t_c|^g (-t_c \log p_c)` with ``softmax``: the usual focal loss (arXiv:1708.02002) on hard labels, and 0 only
    at the label on soft ones, where the usual one is not smallest. Near the label it is very flat. Mean, ``weight`` and background
    as in :class:`~monai_jdt.losses.JDTCELoss`.

    In MONAI's ``DiceFocalLoss`` ``gamma`` and ``alpha`` are the focal term's, which are ``focal_gamma`` and ``focal_alpha`` here. The
    constructor warns of ``gamma`` without ``focal_gamma``, and of ``alpha`` without ``beta`` or ``focal_alpha``, which may be meant as
    MONAI's.

    Args:
        include_background: see :class:`JDTLoss`, as for all others. The focal term always includes channel 0.
        to_onehot_y: `target` holds class indices.
        sigmoid: apply a sigmoid. One of sigmoid and softmax is needed.
        softmax: apply a softmax.
        other_act: refused, since the focal term is computed from logits.
        lambda_jdt: weight of the JDT term, >= 0.
        lambda_focal: weight of the focal term, >= 0.
        focal_gamma: g, >= 1.
        focal_alpha: in [0, 1]: a voxel weighs ``focal_alpha`` times its foreground plus ``1 - focal_alpha`` times its background
            (with softmax, channel 0); None: 1.
        alpha: cost of false positives, >= 0.
        beta: cost of false negatives, >= 0.
        **options: the other keyword arguments of :class:`JDTLoss`; ``reduction`` is "mean" or "sum".

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: as :class:`JDTLoss`; no sigmoid or softmax; ``reduction="none"``; ``focal_gamma`` below 1.

    Example:
        >>> import torch
        >>> target = torch.full((1, 1, 8), 0.5)
        >>> float(JDTFocalLoss(sigmoid=True)(torch.zeros(1, 1, 8), target))
        0.0
    """

    @_warns_of_monai_names
    def __init__(
        self,
        include_background: bool = True,
        to_onehot_y: bool = False,
        sigmoid: bool = False,
        softmax: bool = False,
        other_act: Callable[[torch.Tensor], torch.Tensor] | None = None,
        *,
        lambda_jdt: float = 0.75,
        lambda_focal: float = 0.25,
        focal_gamma: float = 2.0,
        focal_alpha: float | None = None,
        alpha: float = 1.0,
        beta: float = 1.0,
        **options: Unpack[SharedOptions],
    ) -> None:
        super().__init__(include_background, to_onehot_y, sigmoid, softmax, other_act, alpha=alpha, beta=beta, **options)
        voxels = replace(self.recipe.voxels, pixel=PixelRule(PixelTerm.FOCAL, focal_gamma, focal_alpha))
        self.recipe = replace(self.recipe, voxels=voxels, lambda_jdt=lambda_jdt, lambda_pixel=lambda_focal)
