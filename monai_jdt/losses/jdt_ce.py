"""JDT loss plus cross-entropy, soft labels in both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from typing_extensions import Unpack

from monai_jdt.definitions import PixelRule, PixelTerm
from monai_jdt.losses._options import SharedOptions, with_full_signature
from monai_jdt.losses.jdt import JDTLoss


@with_full_signature(JDTLoss.__init__)
class JDTCELoss(JDTLoss):
    r"""``lambda_jdt`` * JDT + ``lambda_ce`` * cross-entropy: with ``softmax`` over the classes, with ``sigmoid`` binary for each.

    Both terms take soft labels in every form, in one pass over the voxels, so the sum is smallest at the label. The cross-entropy
    :math:`-\sum_c t_c \log p_c` is the mean over counted voxels (binary: and channels), background included always; its smallest
    value is the label's entropy, so on soft labels the loss does not reach 0.

    With ``weight`` (one for each channel of `input`): the overlap term as in :class:`JDTLoss`; in the cross-entropy a voxel
    weighs :math:`w_v = \sum_c w_c t_c` (softmax, mean = sum / sum of w_v), a channel :math:`w_c` (sigmoid), or, with one
    channel, :math:`w t + 1 - t`.

    ``JDTCELoss(alpha=.5, beta=.5, lambda_jdt=1, lambda_ce=1)`` has the values of MONAI's ``DiceCELoss`` on hard labels with softmax,
    and with sigmoid and one channel, up to the smoothing: ours is added to ``tp``, MONAI's to ``2 tp``.

    Args:
        include_background: see :class:`JDTLoss`, as for all others. The cross-entropy always includes channel 0.
        to_onehot_y: `target` holds class indices.
        sigmoid: apply a sigmoid. One of sigmoid and softmax is needed.
        softmax: apply a softmax.
        other_act: refused, since cross-entropy is computed from logits.
        lambda_jdt: weight of the JDT term, >= 0.
        lambda_ce: weight of the cross-entropy, >= 0. The defaults .75, .25 are the papers'.
        alpha: cost of false positives, >= 0.
        beta: cost of false negatives, >= 0.
        **options: the other keyword arguments of :class:`JDTLoss`; ``reduction`` is "mean" or "sum".

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: as :class:`JDTLoss`; no sigmoid or softmax; ``reduction="none"``.

    Example:
        >>> import torch
        >>> target = torch.full((1, 1, 8), 0.5)
        >>> loss = JDTCELoss(sigmoid=True)
        >>> round(float(loss(torch.zeros(1, 1, 8), target)), 4)  # .75 * 0 + .25 * log 2
        0.1733
    """

    def __init__(
        self,
        include_background: bool = True,
        to_onehot_y: bool = False,
        sigmoid: bool = False,
        softmax: bool = False,
        other_act: Callable[[torch.Tensor], torch.Tensor] | None = None,
        *,
        lambda_jdt: float = 0.75,
        lambda_ce: float = 0.25,
        alpha: float = 1.0,
        beta: float = 1.0,
        **options: Unpack[SharedOptions],
    ) -> None:
        super().__init__(include_background, to_onehot_y, sigmoid, softmax, other_act, alpha=alpha, beta=beta, **options)
        voxels = replace(self.recipe.voxels, pixel=PixelRule(PixelTerm.CROSS_ENTROPY))
        self.recipe = replace(self.recipe, voxels=voxels, lambda_jdt=lambda_jdt, lambda_pixel=lambda_ce)
