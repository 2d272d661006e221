"""Deep supervision with soft labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch.nn.modules.loss import _Loss

from monai_jdt.definitions import LabelReading
from monai_jdt.functional.area_means import LabelPyramid
from monai_jdt.functional.inputs import prepare
from monai_jdt.functional.jdt import loss_of_inputs
from monai_jdt.functional.ranks import check_own_parts
from monai_jdt.losses._script import NotScriptable
from monai_jdt.losses.distillation import DistillationLoss
from monai_jdt.losses.jdt import JDTLoss
from monai_jdt.losses.lovasz import LovaszSoftmaxLoss
from monai_jdt.plain_tensors import is_exporting, kept_for_backward, plain_tensor
from monai_jdt.validation import check_name, check_number, check_sequence, error_sentence

_MODES = ("same", "exp", "two")


class SoftDeepSupervisionLoss(NotScriptable, _Loss):
    r"""The weighted sum of a loss over the heads of a deeply supervised network, :math:`\sum_l w_l\, L(head_l, target_l)`.

    Where a head is smaller than the target, ``target_l`` is the mean of the soft label over each block's counted voxels, so that
    it stays the share of raters; MONAI's ``DeepSupervisionLoss`` takes a single voxel of each block. A block without a counted
    voxel is ignored. Class indices and votes become soft labels at lower resolution.

    Args:
        loss: a loss of this package for soft labels; or any other loss of ``(input, target)``, then with dense labels and no mask.
        weight_mode: "exp": 1, .5, .25, .125, then .0625; "two": 1, then .5; "same": 1. As MONAI's.
        weights: the weights themselves, at least one for each head; instead of ``weight_mode``.

    Raises:
        TypeError: `loss` is no module, or one that area means do not fit.
        ValueError: an unknown mode, or a negative weight.

    Example:
        >>> import torch
        >>> from monai_jdt.losses import JaccardMetricLoss
        >>> target = torch.tensor([[[0.2, 0.4, 0.6, 1.0]]])
        >>> heads = [target, torch.tensor([[[0.3, 0.8]]])]
        >>> round(float(SoftDeepSupervisionLoss(JaccardMetricLoss())(heads, target)), 6)
        0.0
    """

    def __init__(self, loss: _Loss, weight_mode: str = "exp", weights: Sequence[float] | None = None) -> None:
        super().__init__()
        if not isinstance(loss, torch.nn.Module):
            raise TypeError(error_sentence("loss", "a loss module", type(loss).__name__))
        if isinstance(loss, LovaszSoftmaxLoss | DistillationLoss):
            why = "it is for hard labels, and area means are soft" if isinstance(loss, LovaszSoftmaxLoss) else "it needs a teacher"
            raise TypeError(error_sentence("loss", "a loss of (input, soft label)", f"{type(loss).__name__}: {why}"))
        self.loss = loss
        self.backend_used: str | None = None
        self.weight_mode = check_name("weight_mode", weight_mode, _MODES)
        if weights is not None:
            weights = check_sequence("weights", weights, "a sequence of numbers, one for each head")
        self.weights = None if weights is None else [check_number("weights", w, 0) for w in weights]

    def forward(
        self,
        input: torch.Tensor | Sequence[torch.Tensor],
        target: torch.Tensor,
        mask: torch.Tensor | None = None,
        *,
        rater_weights: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return the loss.

        Args:
            input: a list or tuple of heads, ``(N, C, *S_l)`` each, the first one the output; or DynUNet's heads stacked,
                ``(N, heads, C, *S)``; or one output.
            target: label at the highest resolution, in the form of `loss`.
            mask: which voxels count, at the target's resolution.
            rater_weights: for votes.

        Returns:
            A scalar.

        Raises:
            TypeError: an argument that is no tensor.
            ValueError: no head, fewer weights than heads, or tensors that do not fit.
        """
        own = isinstance(self.loss, JDTLoss)
        group = self.loss.recipe.averaging.sync_group if isinstance(self.loss, JDTLoss) else None
        check_own_parts(group, target=target)
        target = kept_for_backward(plain_tensor("target", target))
        heads = self._heads(input, target, group)
        weights = self._head_weights(len(heads))
        if not own and (mask is not None or rater_weights is not None):
            expected = f"None, since {type(self.loss).__name__} does not take them"
            raise ValueError(error_sentence("mask, rater_weights", expected, "one"))
        space = tuple(target.shape[2:])
        extra = {"mask": mask, "rater_weights": rater_weights} if own else {}
        pyramid = None
        checked = False
        losses, kernels = [], []
        for head, weight in zip(heads, weights, strict=True):
            if tuple(head.shape[2:]) == space:
                loss, kernel = self.loss(head, target, **extra), getattr(self.loss, "backend_used", None)
                checked = True
            else:
                if head.ndim != target.ndim or any(a > b for a, b in zip(head.shape[2:], space, strict=False)):
                    expected = f"heads of at most the target's spatial size {space}"
                    raise ValueError(error_sentence("input", expected, f"shape {tuple(head.shape)}"))
                if head.shape[0] != target.shape[0]:
                    got = f"{head.shape[0]} in a head of shape {tuple(head.shape)}"
                    raise ValueError(error_sentence("input", f"the target's {target.shape[0]} images in every head", got))
                if pyramid is None:
                    pyramid = self._pyramid(head, target, mask, rater_weights, checked)
                loss, kernel = self._smaller(head, *pyramid.at(head.shape[2:]))
            losses.append(weight * loss)
            kernels.append(kernel)
        if own and not is_exporting():
            self.backend_used = ", ".join(dict.fromkeys(map(str, kernels)))
        return torch.stack(losses).sum(0)

    def _smaller(self, head: torch.Tensor, label: torch.Tensor, counted: torch.Tensor | None) -> tuple[torch.Tensor, str | None]:
        """Return the loss of a head, with the label at its resolution, and the kernel."""
        if not isinstance(self.loss, JDTLoss):
            return self.loss(head, label), None
        recipe = self.loss.recipe
        voxels = replace(recipe.voxels, label=LabelReading(smoothing=recipe.voxels.label.smoothing))
        inputs = prepare(head, label, voxels, counted, weight=self.loss.class_weight, backend=self.loss.backend)
        return loss_of_inputs(inputs, replace(recipe, voxels=voxels)), inputs.kernel.value

    def _heads(self, input: torch.Tensor | Sequence[torch.Tensor], target: torch.Tensor, group: str | None) -> list[torch.Tensor]:
        if isinstance(input, torch.Tensor):
            heads = list(input.unbind(1)) if input.ndim == target.ndim + 1 else [input]
        elif isinstance(input, Mapping):
            got = f"{type(input).__name__} of {len(input)}"
            fix = "pass list(input.values()), the output at full resolution first"
            raise TypeError(error_sentence("input", "a tensor, or a list or tuple of tensors", got, fix))
        elif isinstance(input, Sequence) and not isinstance(input, str):
            heads = list(input)
        else:
            raise TypeError(error_sentence("input", "a tensor, or a list or tuple of tensors", type(input).__name__))
        if not heads:
            raise ValueError(error_sentence("input", "at least one head", "none"))
        named = {f"input[{number}]": head for number, head in enumerate(heads)}
        check_own_parts(group, **named)
        return [plain_tensor(name, head) for name, head in named.items()]

    def _head_weights(self, heads: int) -> list[float]:
        if self.weights is not None:
            if len(self.weights) < heads:
                raise ValueError(error_sentence("weights", f"one for each of the {heads} heads", str(len(self.weights))))
            return self.weights[:heads]
        if self.weight_mode == "same":
            return [1.0] * heads
        if self.weight_mode == "two":
            return [1.0] + [0.5] * (heads - 1)
        return [max(0.5**level, 0.0625) for level in range(heads)]

    def _pyramid(
        self, head: torch.Tensor, target: torch.Tensor, mask: torch.Tensor | None, rater_weights: torch.Tensor | None, checked: bool
    ) -> LabelPyramid:
        """Return the label at full resolution, ready to be shrunk. With `checked`, its values have been checked."""
        if not isinstance(self.loss, JDTLoss):
            if target.shape[:2] != head.shape[:2]:
                expected = f"a dense label with {head.shape[1]} channels for {type(self.loss).__name__}"
                raise ValueError(error_sentence("target", expected, f"shape {tuple(target.shape)}"))
            return LabelPyramid(target.detach().to(torch.promote_types(head.dtype, torch.float32)))
        # The checks compare with an output at full resolution, which need not be among the heads.
        output = head.detach().new_zeros(()).expand(*head.shape[:2], *target.shape[2:])
        inputs = prepare(output, target, self.loss.recipe.voxels, mask, rater_weights=rater_weights, backend=self.loss.backend)
        if not checked:
            inputs.check_values()
        counts = inputs.vote_counts()
        return LabelPyramid(*inputs.dense_label()) if counts is None else LabelPyramid(counts, votes=target.shape[1])
