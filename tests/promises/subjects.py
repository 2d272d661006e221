"""Who is measured: every loss of this package, MONAI's, torch's cross-entropy, and two plain formulas from the literature."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import monai.losses
import torch
from torch import nn
from torch.nn import functional as F

import monai_jdt.losses as losses
from tests.forced import auto_takes

Heads = list[torch.Tensor]


@dataclass(frozen=True)
class Subject:
    """A loss, and how to call it with logits, a label and a mask.

    Attributes:
        name: as it stands in the table.
        family: "ours", "MONAI", "torch" or "formula".
        build: keyword arguments of the loss -> module.
        activations: "softmax", "sigmoid", and "none" where probabilities can be given.
        forms: label forms: "dense" (one-hot or soft), "index", "votes".
        soft: a soft label is taken (rightly or not) rather than refused.
        zero_at_label: an overlap term or distance alone, which has to be 0 at the label.
        mask: "mask", "ignore_index", "ignore_index with class indices only", or "" for none.
        weights: there are class weights.
        gamma: there is an exponent.
        batch_argument: the keyword arguments for sums over the whole (distributed) batch.
        syncs: sums can be shared over ranks.
        axioms: "metric" or "semimetric" where the loss is one by its formula, or is used as one.
        heads: a list of predictions at several resolutions.
        teacher: a teacher's logits come after the label.
        vectors: takes two tensors of numbers, and no logits.
        kernel: what `backend="auto"` takes while it is measured: "auto" (its own choice), "numpy", "chunked" or "numba".
    """

    name: str
    family: str
    build: Callable[..., nn.Module]
    activations: tuple[str, ...] = ("softmax", "sigmoid", "none")
    forms: tuple[str, ...] = ("dense", "index")
    soft: bool = True
    zero_at_label: bool = True
    mask: str = ""
    weights: bool = False
    gamma: bool = False
    batch_argument: tuple[tuple[str, Any], ...] = ()
    syncs: bool = False
    axioms: str = ""
    heads: bool = False
    teacher: bool = False
    vectors: bool = False
    kernel: str = "auto"

    @property
    def exact(self) -> torch.dtype:
        """The widest dtype that the kernel computes in, for measurements that are about no dtype."""
        return torch.float32 if self.kernel == "numba" else torch.float64

    def on(self, kernel: str) -> Subject:
        """The same loss, measured on another kernel."""
        return replace(self, kernel=kernel)

    def make(self, activation: str = "softmax", form: str = "dense", *, whole_batch: bool = False, **options: Any) -> nn.Module:
        """The module.

        Args:
            activation: one of `activations`.
            form: one of `forms`.
            whole_batch: sums over the batch and, where the loss can, over ranks.
            options: weight, ignore_index, gamma or any other of the loss's own.
        """
        if whole_batch:
            options = dict(self.batch_argument) | options
        return self.build(activation=activation, form=form, **options)

    def arguments(
        self, prediction: torch.Tensor | Heads, label: torch.Tensor, mask: torch.Tensor | None = None, activation: str = "softmax"
    ) -> tuple[Any, ...]:
        """What the module is called with.

        Args:
            prediction: logits (probabilities for "none"); or heads, where the subject has heads.
            label: `(N, C, *S)`, `(N, 1, *S)` or `(N, R, *S)`.
            mask: where given, it is the last argument.
            activation: as for `make`.
        """
        extra = () if mask is None else (mask,)
        if self.vectors:
            assert not isinstance(prediction, list)
            x = activated(prediction, activation)
            return tuple(v.flatten(2) if v.ndim > 2 else v.unsqueeze(2) for v in (x, label))
        if self.heads and not isinstance(prediction, list):
            prediction = with_coarse_head(prediction, activation)
        if self.teacher:
            assert not isinstance(prediction, list)
            return prediction, label, teacher_of(prediction, label, activation), *extra
        if self.family == "torch" and not isinstance(prediction, list) and label.shape[1] == 1 < prediction.shape[1]:
            label = label[:, 0]  # (N, *S) is torch's shape of class indices
        return prediction, label, *extra

    def value(
        self,
        module: nn.Module,
        prediction: torch.Tensor | Heads,
        label: torch.Tensor,
        mask: torch.Tensor | None = None,
        activation: str = "softmax",
    ) -> torch.Tensor:
        arguments = self.arguments(prediction, label, mask, activation)
        with auto_takes(self.kernel):
            return module(*arguments)


def activated(logits: torch.Tensor, activation: str) -> torch.Tensor:
    return {"softmax": lambda x: torch.softmax(x, 1), "sigmoid": torch.sigmoid, "none": lambda x: x}[activation](logits)


def logits_of(prob: torch.Tensor, activation: str) -> torch.Tensor:
    """Logits whose activation is `prob`, finite at 0 and 1."""
    if activation == "none":
        return prob
    if activation == "softmax":
        return prob.clamp_min(1e-18).log()
    return torch.logit(prob).clamp(-41, 41)


def with_coarse_head(logits: torch.Tensor, activation: str) -> Heads:
    """A second head with half the last axis, whose probabilities are the means of the first one's."""
    if logits.ndim < 3 or logits.numel() == 0 or logits.shape[-1] % 2:
        return [logits]
    mean = activated(logits, activation).unflatten(-1, (-1, 2)).mean(-1)
    return [logits, logits_of(mean, activation)]


def teacher_of(logits: torch.Tensor, label: torch.Tensor, activation: str) -> torch.Tensor:
    """A teacher that agrees with the label; with a label of the wrong shape, one that agrees with the student."""
    if label.shape != logits.shape:
        if label.shape[:1] + label.shape[2:] != logits.shape[:1] + logits.shape[2:]:
            return logits.detach()
        numbers = torch.arange(logits.shape[1], device=label.device).reshape(1, -1, *[1] * (logits.ndim - 2))
        label = label[:, :1] == numbers
    # From float32, so that runs in different dtypes have the same teacher.
    return logits_of(label.detach().to(torch.float32), activation)


class ProductDiceCrossEntropy(nn.Module):
    """Soft Dice in product form + cross-entropy: sums in float32, smoothing 1e-5, masks as factors.

    As nnU-Net's loss is described (Isensee et al., Nature Methods 2021, arXiv:1904.08128; Drozdzal et al., arXiv:1608.04117), over all
    classes and without its gathering of ranks.
    """

    def __init__(self, activation: str = "softmax", form: str = "dense", batch: bool = False) -> None:
        super().__init__()
        self.activation = activation
        self.form = form
        self.batch = batch

    def forward(self, logits: torch.Tensor, label: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        t = dense_of(label, logits) if self.form == "index" else label.to(logits.dtype)
        p = activated(logits, self.activation)
        factor = torch.ones_like(p[:, :1]) if mask is None else mask.to(p.dtype)
        wide = torch.promote_types(p.dtype, torch.float32)
        axes = ((0,) if self.batch else ()) + tuple(range(2, p.ndim))
        both, ps, ts = ((v * factor).sum(axes, dtype=wide) for v in (p * t, p, t))
        dice = (2 * both + 1e-5) / (ps + ts + 1e-5)
        if self.activation == "softmax":
            pixel = -(t * torch.log_softmax(logits, 1)).sum(1, keepdim=True)
        else:
            pixel = F.binary_cross_entropy_with_logits(logits, t, reduction="none").mean(1, keepdim=True)
        return 1 - dice.mean() + (pixel * factor).sum(dtype=wide) / factor.sum(dtype=wide)


class NormFormJaccard(nn.Module):
    """The Jaccard metric loss written with norms, tp = (|p| + |t| - |p - t|) / 2, smoothing 1e-3, masks as factors.

    From the formulas of arXiv:2302.05666, in the dtype of its input.
    """

    def __init__(self, activation: str = "softmax", form: str = "dense", batch: bool = False, gamma: float = 1.0) -> None:
        super().__init__()
        self.activation = activation
        self.form = form
        self.batch = batch
        self.gamma = gamma

    def forward(self, logits: torch.Tensor, label: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        t = dense_of(label, logits) if self.form == "index" else label.to(logits.dtype)
        p = activated(logits, self.activation)
        if mask is not None:
            p, t = p * mask, t * mask
        axes = ((0,) if self.batch else ()) + tuple(range(2, p.ndim))
        size_p, size_t, apart = (torch.linalg.vector_norm(v, ord=1, dim=axes) for v in (p, t, p - t))
        tp = (size_p + size_t - apart) / 2
        score = (tp + 1e-3) / (size_p + size_t - tp + 1e-3)
        return ((1 - score) ** self.gamma).mean()


def dense_of(index: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """One-hot, in the shape and dtype of `like`."""
    numbers = torch.arange(like.shape[1]).reshape(1, -1, *[1] * (like.ndim - 2))
    return (index == numbers).to(like.dtype)


def _of(cls: Callable[..., nn.Module], weight_as: Callable = list, **fixed: Any) -> Callable[..., nn.Module]:
    """A loss in MONAI's spelling of activations and label forms; ours speak it too."""

    def build(activation: str, form: str, weight: Sequence[float] | torch.Tensor | None = None, **options: Any) -> nn.Module:
        if activation != "none":
            options[activation] = True
        if form != "dense":
            options[{"index": "to_onehot_y", "votes": "votes"}[form]] = True
        if weight is not None:
            options["weight"] = weight if isinstance(weight, torch.Tensor) else weight_as(weight)
        return cls(**fixed, **options)

    return build


def _in(wrapper: Callable[..., nn.Module], build: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    return lambda **options: wrapper(build(**options))


def _formula(cls: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    return lambda **options: cls(**options)


def _distance(cls: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    return lambda activation, form, **options: cls(**options)


def _lovasz(activation: str, form: str, **options: Any) -> nn.Module:
    return losses.LovaszSoftmaxLoss(to_onehot_y=form == "index", **options)


def _cross_entropy(activation: str, form: str, weight: Sequence[float] | torch.Tensor | None = None, **options: Any) -> nn.Module:
    weight = weight if weight is None or isinstance(weight, torch.Tensor) else torch.tensor(weight)
    return nn.CrossEntropyLoss(weight=weight, **options)


#: What every JDT loss has, and what its compounds have.
_JDT: dict[str, Any] = {
    "family": "ours",
    "forms": ("dense", "index", "votes"),
    "mask": "mask",
    "weights": True,
    "gamma": True,
    "batch_argument": (("batch", True), ("sync", True)),
    "syncs": True,
}
_COMPOUND: dict[str, Any] = _JDT | {"activations": ("softmax", "sigmoid"), "zero_at_label": False}

OURS = (
    Subject("JDTLoss(alpha=.3, beta=.7)", build=_of(losses.JDTLoss, alpha=0.3, beta=0.7), **_JDT),
    Subject("JaccardMetricLoss", build=_of(losses.JaccardMetricLoss), axioms="metric", **_JDT),
    Subject("DiceSemimetricLoss", build=_of(losses.DiceSemimetricLoss), axioms="semimetric", **_JDT),
    Subject("CompatibleTverskyLoss", build=_of(losses.CompatibleTverskyLoss), **_JDT),
    Subject("JDTCELoss", build=_of(losses.JDTCELoss), **_COMPOUND),
    Subject("JDTFocalLoss", build=_of(losses.JDTFocalLoss, focal_gamma=2.0), **_COMPOUND),
    Subject("DistillationLoss", build=_of(losses.DistillationLoss), teacher=True, **_COMPOUND),
    Subject(
        "SoftDeepSupervisionLoss(JDTCELoss)",
        build=_in(losses.SoftDeepSupervisionLoss, _of(losses.JDTCELoss)),
        heads=True,
        **_COMPOUND,
    ),
    Subject("LovaszSoftmaxLoss", "ours", _lovasz, ("softmax",), soft=False, mask="mask"),
    Subject("JaccardDistance", "ours", _distance(losses.JaccardDistance), forms=("dense",), axioms="metric", vectors=True),
    Subject("DiceDistance", "ours", _distance(losses.DiceDistance), forms=("dense",), axioms="semimetric", vectors=True),
)

_MONAI: dict[str, Any] = {"family": "MONAI", "batch_argument": (("batch", True),)}
_MONAI_COMPOUND: dict[str, Any] = _MONAI | {"activations": ("softmax", "sigmoid"), "zero_at_label": False, "weights": True}
_DICE: dict[str, Any] = _MONAI | {"mask": "ignore_index", "weights": True}
_TVERSKY: dict[str, Any] = _MONAI | {"mask": "ignore_index"}
_dice_ce = _of(monai.losses.DiceCELoss, weight_as=torch.tensor)

PEERS = (
    Subject("DiceLoss", build=_of(monai.losses.DiceLoss), axioms="semimetric", **_DICE),
    Subject("DiceLoss(soft_label)", build=_of(monai.losses.DiceLoss, soft_label=True), axioms="semimetric", **_DICE),
    Subject(
        "DiceLoss(jaccard, soft_label)",
        build=_of(monai.losses.DiceLoss, jaccard=True, soft_label=True),
        axioms="metric",
        **_DICE,
    ),
    Subject("TverskyLoss(.3, .7)", build=_of(monai.losses.TverskyLoss, alpha=0.3, beta=0.7), **_TVERSKY),
    Subject("TverskyLoss(.3, .7, soft_label)", build=_of(monai.losses.TverskyLoss, alpha=0.3, beta=0.7, soft_label=True), **_TVERSKY),
    Subject("GeneralizedDiceLoss(soft_label)", build=_of(monai.losses.GeneralizedDiceLoss, soft_label=True), **_MONAI),
    Subject("DiceCELoss", build=_dice_ce, **_MONAI_COMPOUND),
    Subject("DiceFocalLoss", build=_of(monai.losses.DiceFocalLoss), **_MONAI_COMPOUND),
    Subject("DeepSupervisionLoss(DiceCELoss)", build=_in(monai.losses.DeepSupervisionLoss, _dice_ce), heads=True, **_MONAI_COMPOUND),
    Subject(
        "CrossEntropyLoss",
        "torch",
        _cross_entropy,
        ("softmax",),
        zero_at_label=False,
        mask="ignore_index with class indices only",
        weights=True,
    ),
    Subject(
        "product Dice + CE",
        "formula",
        _formula(ProductDiceCrossEntropy),
        ("softmax", "sigmoid"),
        zero_at_label=False,
        mask="mask",
        batch_argument=(("batch", True),),
    ),
    Subject(
        "norm-form Jaccard",
        "formula",
        _formula(NormFormJaccard),
        mask="mask",
        gamma=True,
        batch_argument=(("batch", True),),
        axioms="metric",
    ),
)

SUBJECTS = OURS + PEERS
BY_NAME = {subject.name: subject for subject in SUBJECTS}
