"""The Lovász-softmax loss, a baseline for hard labels."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch.nn.modules.loss import _Loss

from monai_jdt.checks import check_hard_values
from monai_jdt.definitions import (
    Activation,
    ActiveClasses,
    Backend,
    LabelReading,
    VoxelRecipe,
    active_classes_of,
    label_form_of,
)
from monai_jdt.functional.inputs import Inputs, prepare
from monai_jdt.functional.lovasz import lovasz_extension
from monai_jdt.kernels.labels import any_of
from monai_jdt.losses._script import NotScriptable
from monai_jdt.validation import check_bool, error_sentence


class LovaszSoftmaxLoss(NotScriptable, _Loss):
    r"""The mean over classes of the Lovász extension of the Jaccard loss, taken at :math:`|p_c - t_c|`, after a softmax.

    For comparison: it equals the Jaccard loss where predictions are 0 or 1, and interpolates it otherwise. It takes *hard* labels
    only, since the Jaccard index it extends counts right and wrong voxels; on soft labels use
    :class:`~monai_jdt.losses.JaccardMetricLoss`.

    Args:
        include_background: False leaves channel 0 out.
        to_onehot_y: ``target`` holds class indices, ``(N, 1, *S)``; otherwise it is one-hot, ``(N, C, *S)``.
        classes: "present": the mean over classes that the label has; "all"; or a list of channel numbers.
        per_image: one loss for each image, then their mean over the images that have a class to count; otherwise one for the batch.
        ignore_index: voxels with this class index (or one-hot voxels all of whose channels equal it) do not count.

    Shapes:
        - input: logits ``(N, C, *S)`` or ``(N, C)``, C >= 2.
        - result: a scalar >= 0; 0 with gradient 0 where there is nothing to count.

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: tensors that do not fit; a soft label (where values are checked, see `monai_jdt.checks.value_checks`).

    References:
        Berman et al., The Lovász-Softmax loss, CVPR 2018, arXiv:1705.08790.

    Example:
        >>> import torch
        >>> target = torch.tensor([[[0, 1, 1]]])
        >>> logits = torch.tensor([[[0.0, 0.0, -200.0], [-200.0, 200.0, 0.0]]])
        >>> float(LovaszSoftmaxLoss(to_onehot_y=True)(logits, target))
        0.0
    """

    def __init__(
        self,
        include_background: bool = True,
        to_onehot_y: bool = False,
        *,
        classes: str | Sequence[int] = "present",
        per_image: bool = False,
        ignore_index: int | None = None,
    ) -> None:
        super().__init__()
        self.classes, self.listed = active_classes_of(classes)
        if self.classes not in (ActiveClasses.LABEL, ActiveClasses.ALL, ActiveClasses.LISTED):
            raise ValueError(error_sentence("classes", "'present', 'all' or a list of channel numbers", repr(classes)))
        self.per_image = check_bool("per_image", per_image)
        self.recipe = VoxelRecipe(
            activation=Activation.SOFTMAX,
            label=LabelReading(form=label_form_of(to_onehot_y, False, None), ignore_index=ignore_index),
            include_background=check_bool("include_background", include_background),
        )

    def forward(
        self,
        input: torch.Tensor,
        target: torch.Tensor,
        mask: torch.Tensor | None = None,
        *,
        rater_weights: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return the loss.

        Args:
            input: logits ``(N, C, *S)`` or ``(N, C)``.
            target: hard label.
            mask: bool or 0/1 ``(N, 1, *S)``, True = counts.
            rater_weights: must be None. It is here so that losses can be exchanged.

        Returns:
            A scalar.

        Raises:
            TypeError: an argument that is no tensor, or of the wrong kind of dtype.
            ValueError: shapes, devices or values that do not fit.
        """
        if rater_weights is not None:
            raise ValueError(error_sentence("rater_weights", "None, since this loss takes one hard label", "weights"))
        inputs = prepare(input, target, self.recipe, mask, backend=Backend.EAGER)
        check_hard_values(inputs.logits, inputs.label, inputs.mask, self.recipe)
        inputs.check_values()
        return self._loss(inputs)

    def _loss(self, inputs: Inputs) -> torch.Tensor:
        n, channels, *space = inputs.logits.shape
        label, counted = inputs.dense_label()
        if counted is None:
            counted = torch.ones_like(label[:, :1], dtype=torch.bool)
        p = torch.softmax(torch.where(counted, inputs.logits.to(label.dtype), 0.0), 1)
        errors = torch.where(counted, (p - label).abs(), 0.0)

        voxels = math.prod(space)

        def by_class(values: torch.Tensor) -> torch.Tensor:
            """Return `(rows, C', voxels of the row)`."""
            values = values.reshape(n, channels, voxels)[:, self.recipe.first_channel :]
            return values if self.per_image else values.movedim(0, 1).reshape(1, values.shape[1], n * voxels)

        counted = by_class(counted.expand(label.shape))
        # `not <=` rather than `>`: an invalid class is NaN, counts as present, and so reaches the loss.
        foreground = ~(by_class(label) <= 0.5)
        losses = lovasz_extension(by_class(errors), foreground, counted)
        active = counted.any(-1)
        if self.classes is ActiveClasses.LABEL:
            active = active & (foreground & counted).any(-1)
        elif self.classes is ActiveClasses.LISTED:
            numbers = range(self.recipe.first_channel, channels)
            if not set(self.listed) <= set(numbers):
                expected = f"channel numbers {numbers.start} to {channels - 1}"
                raise ValueError(error_sentence("classes", expected, f"{list(self.listed)}"))
            active = active & any_of(torch.arange(numbers.start, channels, device=active.device), self.listed)
        count = active.to(losses.dtype).sum(-1)
        of_row = torch.where(active, losses, 0.0).sum(-1) / count.clamp_min(1)
        return of_row.sum() / (count > 0).to(losses.dtype).sum().clamp_min(1)
