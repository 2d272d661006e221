"""The JDT loss family and its three named presets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from enum import Enum
from typing import Any

import torch
from torch.nn.modules.loss import _Loss
from typing_extensions import Self, Unpack

from monai_jdt.definitions import (
    ActiveClasses,
    AveragingRule,
    Backend,
    LabelReading,
    LossRecipe,
    PixelTerm,
    RatioRule,
    VoxelRecipe,
    activation_of,
    active_classes_of,
    average_of,
    backend_of,
    label_form_of,
    regions_of,
)
from monai_jdt.functional.inputs import prepare
from monai_jdt.functional.jdt import loss_of_inputs
from monai_jdt.functional.ranks import group_name, group_of_name
from monai_jdt.losses._class_weight import apply_to_weight, shown_weight, weight_buffer, weight_numbers
from monai_jdt.losses._options import SharedOptions, with_full_signature
from monai_jdt.losses._script import NotScriptable
from monai_jdt.plain_tensors import is_exporting
from monai_jdt.validation import check_bool, error_sentence


class JDTLoss(NotScriptable, _Loss):
    r"""The family of Jaccard metric, Dice semimetric and compatible Tversky losses, right on soft labels.

    For each image and class, with :math:`p` the prediction and :math:`t` the label of a voxel, both in [0, 1], summed over the
    voxels that count,

    .. math::

        tp = \sum \min(p, t), \quad fp = \sum (p - \min(p, t)), \quad fn = \sum (t - \min(p, t)), \quad
        l = \frac{\alpha\, fp + \beta\, fn + s_{dr} - s_{nr}}{tp + \alpha\, fp + \beta\, fn + s_{dr}}

    then :math:`-\log(1 - l)` if ``log_loss``, then :math:`l^\gamma`, then ``weight``, then the average. On hard labels this is the
    usual soft Jaccard, Dice or Tversky loss; on soft labels it is smallest, and 0, at the label, which the usual ones are not.

    Args:
        include_background: False leaves channel 0 out.
        to_onehot_y: ``target`` holds class indices, ``(N, 1, *S)``, of any dtype.
        sigmoid: apply a sigmoid to ``input``.
        softmax: apply a softmax over the channels of ``input``.
        other_act: apply this callable to ``input`` instead; its values must lie in [0, 1].
        alpha: cost of false positives, >= 0.
        beta: cost of false negatives, >= 0; not both 0. 1, 1: Jaccard; .5, .5: Dice. With one of them 0 the label is a minimiser,
            but not the only one.
        gamma: exponent, > 0; above 1 it favours the pairs that are worst.
        log_loss: take the negative logarithm of the score.
        norm: 1, or 2 for squared sums ``tp = sum p t, fp = sum p^2 - tp, fn = sum t^2 - tp`` (then alpha = beta).
        average: None: mean over active (image, class) pairs, or over active classes with ``batch``. "dataset": sums over the batch,
            mean over its active classes. "image": mean over an image's active classes, then over the images that have any.
            "class": mean over a class's active images, then over the classes that have any. Or weights of the three,
            ``{"dataset": .2, "image": .3, "class": .5}``, used as given (arXiv:2310.19252).
        classes: which pairs are active. "all"; "present" (or "label"): the label's largest value is above ``threshold``; "prob":
            the prediction's is; "both": either is; a list of channel numbers; "pooled": one ratio over all channels. Judged
            before label smoothing, after the mask. A pair without a counted voxel is never active.
        threshold: for ``classes``.
        label_smoothing: e. The label becomes ``(1 - e) t + e / C`` with softmax, ``(1 - e) t + e / 2`` with sigmoid.
        votes: ``target`` is a stack of R raters' maps of label values, ``(N, R, *S)``. The label is the (weighted) share of raters.
            Channel c is value c (with C = 1: value 1), or what ``regions`` says. A voxel at which no rater speaks has no label and is
            ignored, and so is an image whose raters are all missing (a fusion of such an image raises).
        regions: for class indices and votes, the label values of each sigmoid channel, such as ``[[1, 4], [1, 2, 4], [4]]``.
        sync: add sums over the ranks of torch.distributed before the ratio; nothing without a process group. Every rank of ``group``
            must then call the loss equally often.
        group: the process group of ``sync``, such as ``torch.distributed.new_group(ranks)``; None: all ranks. It is needed where not
            every rank calls this loss: pipeline parallelism, or several models in one job. It can be set later, ``loss.group = ...``.
        batch: add sums over the batch before the ratio.
        weight: a weight for each class, or one for all, >= 0, not normalised; as many as there are channels in the overlap. With one
            channel in the overlap it does nothing, as in MONAI: there is no other class to weigh it against.
        ignore_index: class indices equal to it, dense voxels whose channels *all* equal it, or single votes equal to it say
            nothing. With a dense label it must lie outside [0, 1].
        reduction: "mean", "sum" (over active pairs) or "none".
        smooth_nr: added to tp in the numerator of the score, in [0, ``smooth_dr``].
        smooth_dr: added to the denominator, >= 0.
        squared_pred: MONAI's spelling of ``norm=2``.
        soft_label: MONAI's switch for soft labels. False is refused, since these losses have no other form.
        backend: which kernel sums over the voxels: "eager" (the definition, and the only one with second derivatives and vmap),
            "numpy", "chunked" and "numba" (CPU), "triton" (CUDA), or "auto", the fastest that can run. A named one that cannot run
            is an error, with the reason. After a call, ``backend_used`` is the name of the one that ran. See the page on kernels.

    Shapes:
        - input: ``(N, C, *S)``, any number of spatial dimensions, or ``(N, C)``, where each pair is one voxel. Floating point.
        - target: ``(N, C, *S)`` in [0, 1]; ``(N, 1, *S)`` with ``to_onehot_y`` or ``regions``; ``(N, R, *S)`` with ``votes``.
        - mask: ``(N, 1, *S)``, or ``(N, C, *S)`` with ``sigmoid``; bool or 0/1; True = counts.
        - result: a scalar >= 0; with ``reduction="none"`` ``(N, C)``, or ``(C,)`` with ``batch``, C being 1 for pooled classes; the
          Jaccard and Dice presets append a 1 for each spatial dimension, as MONAI's DiceLoss. float32 (float64 for float64).
          Nothing to count (an empty batch, everything ignored): 0 with gradient 0.

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: arguments that contradict each other, or tensors that do not fit. The message says what was expected.

    References:
        Wang et al., Jaccard Metric Losses, NeurIPS 2023, arXiv:2302.05666. Wang et al., Dice Semimetric Losses, MICCAI 2023,
        arXiv:2303.16296. Wang et al., Fine-grained IoU, NeurIPS 2023, arXiv:2310.19252.

    Example:
        >>> import torch
        >>> from monai_jdt.losses import JDTLoss
        >>> target = torch.tensor([[[0.3, 0.7, 0.0, 1.0]]])  # one image, one class, four voxels
        >>> float(JDTLoss()(target, target))
        0.0
        >>> loss = JDTLoss(sigmoid=True, alpha=0.3, beta=0.7)(torch.zeros(1, 1, 4), target)  # .3 * .7 + .7 * .7 of 1.3 + that
        >>> round(float(loss), 4)
        0.35
    """

    def __init__(
        self,
        include_background: bool = True,
        to_onehot_y: bool = False,
        sigmoid: bool = False,
        softmax: bool = False,
        other_act: Callable[[torch.Tensor], torch.Tensor] | None = None,
        *,
        alpha: float = 1.0,
        beta: float = 1.0,
        gamma: float = 1.0,
        log_loss: bool = False,
        norm: int = 1,
        average: str | Mapping[str, float] | None = None,
        classes: str | Sequence[int] = "all",
        threshold: float = 0.01,
        label_smoothing: float = 0.0,
        votes: bool = False,
        regions: Sequence[Sequence[int]] | None = None,
        sync: bool = False,
        group: Any = None,
        batch: bool = False,
        weight: Sequence[float] | float | torch.Tensor | None = None,
        ignore_index: int | None = None,
        reduction: str = "mean",
        smooth_nr: float = 1e-5,
        smooth_dr: float = 1e-5,
        squared_pred: bool = False,
        soft_label: bool = True,
        backend: str = "auto",
    ) -> None:
        reduction = getattr(reduction, "value", reduction)  # MONAI's LossReduction
        super().__init__()
        mode, listed = active_classes_of(classes)
        if mode is ActiveClasses.POOLED and weight is not None:
            raise ValueError(error_sentence("weight", "None with classes='pooled', which leaves one class only", repr(weight)))
        if soft_label is not True:
            fix = "leave it out: on hard labels these losses equal MONAI's anyway, and on soft labels they have no other form"
            raise ValueError(error_sentence("soft_label", "True", repr(soft_label), fix))
        self.recipe = LossRecipe(
            voxels=VoxelRecipe(
                activation=activation_of(sigmoid, softmax, other_act),
                other_act=other_act,
                label=LabelReading(
                    form=label_form_of(to_onehot_y, votes, regions),
                    regions=regions_of(regions),
                    ignore_index=ignore_index,
                    smoothing=label_smoothing,
                ),
                include_background=include_background,
                norm=2 if check_bool("squared_pred", squared_pred) else norm,
                threshold=threshold,
            ),
            ratio=RatioRule(alpha, beta, gamma, log_loss, smooth_nr, smooth_dr),
            averaging=AveragingRule(average_of(average), mode, listed, batch, reduction, sync, group_name(group)),
        )
        self.reduction = reduction
        self.backend = backend_of(backend)
        self.backend_used: str | None = None
        self.class_weight: torch.Tensor | None
        self._weight_numbers = weight_numbers(weight)
        self.register_buffer("class_weight", weight_buffer(weight, self._weight_numbers))

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
            input: logits or probabilities, ``(N, C, *S)`` or ``(N, C)``.
            target: label. It gets no gradient.
            mask: which voxels count; None: all.
            rater_weights: for ``votes``, ``(N, R)`` or ``(R,)``, >= 0, 0 = this rater is missing; None: 1 each.

        Returns:
            See the class.

        Raises:
            TypeError: an argument that is no tensor, or of the wrong kind of dtype.
            ValueError: shapes, devices, or (see `monai_jdt.checks.value_checks`) values that do not fit.
        """
        inputs = prepare(
            input,
            target,
            self.recipe.voxels,
            mask,
            rater_weights=rater_weights,
            weight=self.class_weight,
            backend=self.backend,
            sync_group=self.recipe.averaging.sync_group,
        )
        self._remember(inputs.kernel)
        return loss_of_inputs(inputs, self.recipe)

    @property
    def group(self) -> Any:
        """The process group of ``sync``, or None for all ranks."""
        return group_of_name(self.recipe.averaging.group)

    @group.setter
    def group(self, group: Any) -> None:
        self.recipe = replace(self.recipe, averaging=replace(self.recipe.averaging, group=group_name(group)))

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> Self:
        """Let the weight follow a device in `.to()`, `.half()` and the like. It is never rounded."""
        weight = self.class_weight
        # First, since a move that fails, as to an absent GPU, must leave the loss as it was.
        after = None if weight is None else apply_to_weight(weight, self._weight_numbers, fn)
        self.class_weight = None
        try:
            super()._apply(fn, recurse)
            weight = after
        finally:
            self.class_weight = weight
        return self

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:
        """Load what the state holds in its own precision, not in that of the constructor's numbers."""
        loaded = state_dict.get(f"{prefix}class_weight")
        if self.class_weight is not None and isinstance(loaded, torch.Tensor) and loaded.dtype is torch.float64:
            self.class_weight = self.class_weight.to(torch.float64)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _remember(self, kernel: Backend) -> None:
        """Set `backend_used`, except under `torch.export`, which does not allow a module to change."""
        if not is_exporting():
            self.backend_used = kernel.value

    def extra_repr(self) -> str:
        """Return the settings that are not the defaults, and alpha and beta always."""
        recipe = self.recipe
        focal = recipe.voxels.pixel is not None and recipe.voxels.pixel.term is PixelTerm.FOCAL
        names = {"smoothing": "label_smoothing", "lambda_pixel": "lambda_focal" if focal else "lambda_ce"}
        own = {"smooths_double", "spatial_ones", "term"}  # follow from the class
        shown = [] if self.class_weight is None else [f"weight={shown_weight(self.class_weight)}"]
        for part in (recipe.voxels, recipe.voxels.label, recipe.ratio, recipe.averaging, recipe.voxels.pixel, recipe):
            for field in () if part is None else fields(part):
                value = getattr(part, field.name)
                if field.name in own or is_dataclass(value) or (value == field.default and field.name not in ("alpha", "beta")):
                    continue
                shown.append(f"{names.get(field.name, field.name)}={value.value if isinstance(value, Enum) else value}")
        if self.backend is not Backend.AUTO:
            shown.append(f"backend={self.backend.value}")
        return ", ".join(shown)


@with_full_signature(JDTLoss.__init__)
class _DicePreset(JDTLoss):
    """Fixed and equal alpha and beta. As MONAI's DiceLoss, it smooths `2 tp` and keeps spatial ones in the unreduced shape."""

    #: alpha and beta.
    _cost: float

    def __init__(
        self,
        include_background: bool = True,
        to_onehot_y: bool = False,
        sigmoid: bool = False,
        softmax: bool = False,
        other_act: Callable[[torch.Tensor], torch.Tensor] | None = None,
        **options: Unpack[SharedOptions],
    ) -> None:
        super().__init__(include_background, to_onehot_y, sigmoid, softmax, other_act, alpha=self._cost, beta=self._cost, **options)
        self.recipe = replace(self.recipe, ratio=replace(self.recipe.ratio, smooths_double=True), spatial_ones=True)


class JaccardMetricLoss(_DicePreset):
    r"""JML: 1 - soft Jaccard index, :math:`\frac{|p - t|}{\sum \max(p, t)}`, a metric between labels for equal smoothing.

    :class:`JDTLoss` with ``alpha = beta = 1``, smoothed like MONAI's ``DiceLoss(jaccard=True)``, whose values it has on hard
    labels: ``smooth_nr`` is added to ``2 tp``.

    Args:
        include_background: see :class:`JDTLoss`, as for all others.
        to_onehot_y: `target` holds class indices.
        sigmoid: apply a sigmoid.
        softmax: apply a softmax.
        other_act: apply this callable.
        **options: the keyword arguments of :class:`JDTLoss` other than alpha and beta.

    Example:
        >>> import torch
        >>> loss = JaccardMetricLoss(smooth_nr=0, smooth_dr=0)
        >>> p, t = torch.tensor([[[1.0, 1.0, 0.0]]]), torch.tensor([[[1.0, 0.0, 0.5]]])
        >>> round(float(loss(p, t)), 4)  # 1.5 / 2.5
        0.6
    """

    _cost = 1.0


class DiceSemimetricLoss(_DicePreset):
    r"""DML: 1 - soft Dice score, :math:`\frac{|p - t|}{|p| + |t|}`, a semimetric between labels for equal smoothing.

    :class:`JDTLoss` with ``alpha = beta = .5``, smoothed like MONAI's ``DiceLoss``, whose values it has on hard labels:
    ``smooth_nr`` is added to ``2 tp``. In a config, exchanging ``_target_: DiceLoss`` for this one is enough.

    Args:
        include_background: see :class:`JDTLoss`, as for all others.
        to_onehot_y: `target` holds class indices.
        sigmoid: apply a sigmoid.
        softmax: apply a softmax.
        other_act: apply this callable.
        **options: the keyword arguments of :class:`JDTLoss` other than alpha and beta.

    Example:
        >>> import torch
        >>> loss = DiceSemimetricLoss(smooth_nr=0, smooth_dr=0)
        >>> p, t = torch.tensor([[[1.0, 1.0, 0.0]]]), torch.tensor([[[1.0, 0.0, 0.5]]])
        >>> round(float(loss(p, t)), 4)  # 1.5 / 3.5
        0.4286
    """

    _cost = 0.5


@with_full_signature(JDTLoss.__init__)
class CompatibleTverskyLoss(JDTLoss):
    r"""CTL: the Tversky loss that is right on soft labels, with free costs of false positives and negatives.

    :class:`JDTLoss` with the defaults and smoothing of MONAI's ``TverskyLoss``, whose values it has on hard labels.

    Args:
        include_background: see :class:`JDTLoss`, as for all others.
        to_onehot_y: `target` holds class indices.
        sigmoid: apply a sigmoid.
        softmax: apply a softmax.
        other_act: apply this callable.
        alpha: cost of false positives, >= 0.
        beta: cost of false negatives, >= 0.
        **options: the other keyword arguments of :class:`JDTLoss`.

    Example:
        >>> import torch
        >>> loss = CompatibleTverskyLoss(alpha=0.3, beta=0.7, smooth_nr=0, smooth_dr=0)
        >>> p, t = torch.tensor([[[1.0, 1.0, 0.0]]]), torch.tensor([[[1.0, 0.0, 0.5]]])
        >>> round(float(loss(p, t)), 4)  # (.3 * 1 + .7 * .5) / (1 + .65)
        0.3939
    """

    def __init__(
        self,
        include_background: bool = True,
        to_onehot_y: bool = False,
        sigmoid: bool = False,
        softmax: bool = False,
        other_act: Callable[[torch.Tensor], torch.Tensor] | None = None,
        *,
        alpha: float = 0.5,
        beta: float = 0.5,
        **options: Unpack[SharedOptions],
    ) -> None:
        super().__init__(include_background, to_onehot_y, sigmoid, softmax, other_act, alpha=alpha, beta=beta, **options)
