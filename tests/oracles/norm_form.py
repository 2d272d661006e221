"""What the JDT losses should be: the papers' norm form, in float64, one voxel after the other.

This is another program than the package on purpose. It has no torch in it, it reads every label form by looking at one voxel, it
takes the overlap from norms instead of from minima, and it is slow. Where a paper gives the formula it is named; the rest states
the rule in words.

* Overlap: ``tp = (|p| + |t| - |p - t|) / 2, fp = |p| - tp, fn = |t| - tp`` (Wang et al., arXiv:2302.05666, eq. for JML;
  arXiv:2303.16296 for DML and the compatible Tversky loss), with squared norms for ``norm = 2``.
* Averages over the data set, images and classes: arXiv:2310.19252.
* Cross-entropy with soft labels: its definition. Focal: |p - t|^g BCE(p, t), which on hard labels is arXiv:1708.02002.

`jdt`, `jdt_ce` and `jdt_focal` take the arguments of the losses, arrays of shape (N, C, *S) and no torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

#: (alpha, beta, whether the smoothing stands beside 2 tp) of the losses that fix or default them.
FAMILY = {
    "JDTLoss": (1.0, 1.0, False),
    "JaccardMetricLoss": (1.0, 1.0, True),
    "DiceSemimetricLoss": (0.5, 0.5, True),
    "CompatibleTverskyLoss": (0.5, 0.5, False),
    "JDTCELoss": (1.0, 1.0, False),
    "JDTFocalLoss": (1.0, 1.0, False),
}


@dataclass
class Arguments:
    """The constructor arguments of the losses; the defaults are the documented ones."""

    include_background: bool = True
    to_onehot_y: bool = False
    sigmoid: bool = False
    softmax: bool = False
    other_act: Callable[[np.ndarray], np.ndarray] | None = None
    alpha: float = 1.0
    beta: float = 1.0
    gamma: float = 1.0
    log_loss: bool = False
    norm: int = 1
    average: str | dict[str, float] | None = None
    classes: str | Sequence[int] = "all"
    threshold: float = 0.01
    label_smoothing: float = 0.0
    votes: bool = False
    regions: Sequence[Sequence[int]] | None = None
    sync: bool = False
    batch: bool = False
    weight: Sequence[float] | float | None = None
    ignore_index: int | None = None
    reduction: str = "mean"
    smooth_nr: float = 1e-5
    smooth_dr: float = 1e-5
    squared_pred: bool = False
    soft_label: bool = True
    smooths_double: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        if self.squared_pred:
            self.norm = 2
        if self.smooths_double:  # (2 tp + s) / (2 (...) + s) = (tp + s/2) / (... + s/2)
            self.smooth_nr, self.smooth_dr = self.smooth_nr / 2, self.smooth_dr / 2


def arguments_of(loss: str, given: dict[str, Any]) -> Arguments:
    """The arguments of the loss called `loss`, with what it fixes."""
    alpha, beta, double = FAMILY[loss]
    return Arguments(**{"alpha": alpha, "beta": beta, **given}, smooths_double=double)


# --- from arrays to p, t and which voxels count ---


def as_voxels(array: ArrayLike) -> np.ndarray:
    """(N, C, *S) -> (N, C, V); (N, C) is one voxel for each pair."""
    array = np.asarray(array, dtype=np.float64)
    voxels = math.prod(array.shape[2:])
    return array.reshape(array.shape[0], array.shape[1], voxels)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def log_softmax(logits: Sequence[float]) -> list[float]:
    top = max(logits)
    log_sum = top + math.log(math.fsum(math.exp(x - top) for x in logits))
    return [x - log_sum for x in logits]


def predictions(logits: np.ndarray, a: Arguments, counted: np.ndarray) -> np.ndarray:
    """p; what does not count is left at 0 and never looked at."""
    n, c, v = logits.shape
    p = np.zeros_like(logits)
    if a.other_act is not None:
        return np.where(counted, a.other_act(logits), 0.0)
    for i in range(n):
        for k in range(v):
            if not counted[i, :, k].any():
                continue
            if a.softmax:
                p[i, :, k] = [math.exp(x) for x in log_softmax(list(logits[i, :, k]))]
                continue
            for j in range(c):
                if counted[i, j, k]:
                    p[i, j, k] = sigmoid(logits[i, j, k]) if a.sigmoid else logits[i, j, k]
    return p


def belongs(value: float, channel: int, channels: int, a: Arguments) -> bool:
    """Whether a voxel of this label value belongs to the channel."""
    if a.regions is not None:
        return value in [float(r) for r in a.regions[channel]]
    if channels == 1:
        return value == 1
    return value == channel


def read_label(
    target: np.ndarray, channels: int, a: Arguments, rater_weights: ArrayLike | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """t, (N, C, V), and whether anybody says something about the voxel, (N, V).

    Index maps: the voxel says nothing where it equals ignore_index. Dense labels: where all channels equal it. Votes: t is the
    weighted share of the raters that speak, that is, those of weight > 0 whose vote is not ignore_index.
    """
    n, maps, v = target.shape
    label, speaks = np.zeros((n, channels, v)), np.zeros((n, v), dtype=bool)
    for i in range(n):
        for k in range(v):
            if a.votes:
                weights = [1.0] * maps if rater_weights is None else list(np.broadcast_to(rater_weights, (n, maps))[i])
                voices = [(w, x) for w, x in zip(weights, target[i, :, k], strict=True) if w > 0 and x != a.ignore_index]
                speaks[i, k] = bool(voices)
                for j in range(channels):
                    if voices:
                        share = math.fsum(w for w, x in voices if belongs(x, j, channels, a))
                        label[i, j, k] = share / math.fsum(w for w, _ in voices)
            elif a.to_onehot_y or a.regions is not None:
                value = target[i, 0, k]
                speaks[i, k] = value != a.ignore_index
                for j in range(channels):
                    label[i, j, k] = float(speaks[i, k] and belongs(value, j, channels, a))
            else:
                speaks[i, k] = a.ignore_index is None or not all(target[i, j, k] == a.ignore_index for j in range(channels))
                label[i, :, k] = target[i, :, k] if speaks[i, k] else 0.0
    return label, speaks


def voxels_that_count(speaks: np.ndarray, mask: ArrayLike | None, channels: int) -> np.ndarray:
    """(N, C, V): somebody speaks, and the mask, of one channel or of all, lets it count."""
    n, v = speaks.shape
    counted = np.zeros((n, channels, v), dtype=bool)
    masks = None if mask is None else as_voxels(mask)
    for i in range(n):
        for j in range(channels):
            for k in range(v):
                unmasked = masks is None or masks[i, j if masks.shape[1] > 1 else 0, k] == 1
                counted[i, j, k] = speaks[i, k] and unmasked
    return counted


def smoothed(label: np.ndarray, a: Arguments) -> np.ndarray:
    """The label moved towards 1 / C with softmax, where channels exclude each other, towards 1/2 where they do not."""
    middle = 1 / label.shape[1] if a.softmax else 0.5
    return (1 - a.label_smoothing) * label + a.label_smoothing * middle


# --- the overlap term ---


def overlap_sums(p: Sequence[float], t: Sequence[float], norm: int) -> tuple[float, float, float]:
    """tp, fp, fn of the voxels of one group, by the papers' norm form."""
    size_p = math.fsum(abs(x) ** norm for x in p)
    size_t = math.fsum(abs(x) ** norm for x in t)
    distance = math.fsum(abs(x - y) ** norm for x, y in zip(p, t, strict=True))
    tp = (size_p + size_t - distance) / 2
    return tp, size_p - tp, size_t - tp


def ratio(tp: float, fp: float, fn: float, a: Arguments) -> float:
    """1 - score (written without the subtraction), its logarithm, its power. No overlap to speak of, 0 / 0, is no loss."""
    cost = a.alpha * fp + a.beta * fn
    denominator = tp + cost + a.smooth_dr
    if denominator == 0:
        return 0.0
    loss = (cost + a.smooth_dr - a.smooth_nr) / denominator
    loss = max(loss, 0.0)  # the norm form rounds below 0 at equality; the function does not go there
    if a.log_loss:
        score = (tp + a.smooth_nr) / denominator
        loss = -math.log(score) if score > 0 else math.inf
        loss = max(loss, 0.0)
    return loss**a.gamma


def mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if len(values) else 0.0


@dataclass
class Group:
    """Pairs of image and channel whose sums are added before the ratio."""

    pairs: list[tuple[int, int]]
    weight: float = 1.0


def is_active(group: Group, p: np.ndarray, t: np.ndarray, counted: np.ndarray, a: Arguments) -> bool:
    """By the target before label smoothing and after the mask. No voxel that counts: never active."""
    voxels = [(j, k, i) for i, j in group.pairs for k in range(p.shape[2]) if counted[i, j, k]]
    if not voxels:
        return False
    top_t = max(t[i, j, k] for j, k, i in voxels)
    top_p = max(p[i, j, k] for j, k, i in voxels)
    if a.classes in ("present", "label"):
        return top_t > a.threshold
    if a.classes == "prob":
        return top_p > a.threshold
    if a.classes == "both":
        return top_t > a.threshold or top_p > a.threshold
    if isinstance(a.classes, str):  # all, pooled
        return True
    return group.pairs[0][1] in list(a.classes)


def group_loss(group: Group, p: np.ndarray, t: np.ndarray, counted: np.ndarray, a: Arguments) -> float:
    voxels = [(i, j, k) for i, j in group.pairs for k in range(p.shape[2]) if counted[i, j, k]]
    sums = overlap_sums([p[x] for x in voxels], [t[x] for x in voxels], a.norm)
    return group.weight * ratio(*sums, a)


def channels_in_overlap(channels: int, a: Arguments) -> list[int]:
    return list(range(0 if a.include_background else 1, channels))


def class_weights(channels: int, a: Arguments, pixel_term: bool) -> dict[int, float]:
    """Weight of each channel in the overlap. With a pixel term the weights are those of all channels, else of the channels kept."""
    kept = channels_in_overlap(channels, a)
    if a.weight is None or len(list(kept)) == 1:  # a single class has no other to be weighed against
        return dict.fromkeys(kept, 1.0)
    if isinstance(a.weight, (int, float)):
        return dict.fromkeys(kept, float(a.weight))
    numbers = [float(w) for w in a.weight]
    return {c: numbers[c] for c in kept} if pixel_term else dict(zip(kept, numbers, strict=True))


def grouped(n: int, channels: int, a: Arguments, over_batch: bool, pixel_term: bool) -> list[list[Group]]:
    """Rows of groups: [image][class]; one row if sums run over the batch; one column if channels are pooled."""
    kept = channels_in_overlap(channels, a)
    weights = class_weights(channels, a, pixel_term)
    if a.classes == "pooled":
        images = [Group([(i, j) for j in kept]) for i in range(n)]
        return [[Group([pair for g in images for pair in g.pairs])]] if over_batch else [[g] for g in images]
    if over_batch:
        return [[Group([(i, j) for i in range(n)], weights[j]) for j in kept]]
    return [[Group([(i, j)], weights[j]) for j in kept] for i in range(n)]


def averaged(
    kind: str | None, p: np.ndarray, t: np.ndarray, tm: np.ndarray, counted: np.ndarray, a: Arguments, pixel_term: bool
) -> float:
    """One of the averages: tm is the label after smoothing, t the label that says what is active."""
    n, channels, _ = p.shape
    over_batch = kind == "dataset" or (kind is None and a.batch)
    rows = grouped(n, channels, a, over_batch, pixel_term)
    active = [[is_active(g, p, t, counted, a) for g in row] for row in rows]
    losses = [
        [group_loss(g, p, tm, counted, a) if on else 0.0 for g, on in zip(row, ons, strict=True)]
        for row, ons in zip(rows, active, strict=True)
    ]
    if kind == "class":
        losses = [list(column) for column in zip(*losses, strict=True)]
        active = [list(column) for column in zip(*active, strict=True)]
    if kind in ("image", "class"):
        parts = [[x for x, on in zip(row, ons, strict=True) if on] for row, ons in zip(losses, active, strict=True)]
        return mean([mean(part) for part in parts if part])
    flat = [x for row, ons in zip(losses, active, strict=True) for x, on in zip(row, ons, strict=True) if on]
    return math.fsum(flat) if a.reduction == "sum" else mean(flat)


def overlap_loss(p: np.ndarray, t: np.ndarray, counted: np.ndarray, a: Arguments, pixel_term: bool = False) -> np.ndarray | float:
    """The overlap term: a number, or an array for reduction "none"."""
    tm = smoothed(t, a)
    if a.reduction == "none":
        rows = grouped(p.shape[0], p.shape[1], a, a.batch, pixel_term)
        values = [[group_loss(g, p, tm, counted, a) if is_active(g, p, t, counted, a) else 0.0 for g in row] for row in rows]
        columns = 1 if a.classes == "pooled" else len(channels_in_overlap(p.shape[1], a))
        return np.array(values, dtype=np.float64).reshape((columns,) if a.batch else (p.shape[0], columns))
    if isinstance(a.average, dict):
        return math.fsum(share * averaged(kind, p, t, tm, counted, a, pixel_term) for kind, share in a.average.items())
    return averaged(a.average, p, t, tm, counted, a, pixel_term)


# --- the pixel terms ---


def log_sigmoid(x: float) -> float:
    return -math.log1p(math.exp(-x)) if x >= 0 else x - math.log1p(math.exp(x))


def bce(logit: float, t: float) -> float:
    """-t log p - (1 - t) log(1 - p)."""
    return -(t * log_sigmoid(logit) + (1 - t) * log_sigmoid(-logit))


def pixel_loss(
    logits: np.ndarray,
    t: np.ndarray,
    counted: np.ndarray,
    a: Arguments,
    focal_gamma: float | None = None,
    focal_alpha: float | None = None,
) -> float:
    """Cross-entropy, or focal: a sum over voxels, or that by the weights (softmax) or the number of what counts (sigmoid).

    A weight multiplies a voxel, never a class inside its logarithm, or the label would not be the best prediction any more:
    softmax sum_c w_c t_c; sigmoid w_c for channel c, and with one channel w t + 1 - t. Channel 0 is always in. focal_alpha weighs a
    voxel's foreground (softmax: all but channel 0) against its background, and is, as usual, no part of the mean.
    """

    def balance(foreground: float) -> float:
        return 1.0 if focal_alpha is None else focal_alpha * foreground + (1 - focal_alpha) * (1 - foreground)

    n, c, v = logits.shape
    t = smoothed(t, a)
    weights = [1.0] * c if a.weight is None else [float(w) for w in np.broadcast_to(np.asarray(a.weight, dtype=np.float64), (c,))]
    terms, sizes = [], []
    for i in range(n):
        for k in range(v):
            if a.softmax:
                if not counted[i, :, k].any():
                    continue
                logp = log_softmax(list(logits[i, :, k]))
                w = 1.0 if a.weight is None else math.fsum(weights[j] * t[i, j, k] for j in range(c))
                foci = [1.0 if focal_gamma is None else abs(math.exp(logp[j]) - t[i, j, k]) ** focal_gamma for j in range(c)]
                terms.append(w * balance(1 - t[i, 0, k]) * math.fsum(-t[i, j, k] * logp[j] * foci[j] for j in range(c)))
                sizes.append(w)
                continue
            for j in range(c):
                if not counted[i, j, k]:
                    continue
                w = weights[j] if c > 1 else weights[0] * t[i, j, k] + 1 - t[i, j, k]
                focus = 1.0 if focal_gamma is None else abs(sigmoid(logits[i, j, k]) - t[i, j, k]) ** focal_gamma
                terms.append(w * balance(t[i, j, k]) * focus * bce(logits[i, j, k], t[i, j, k]))
                sizes.append(1.0)
    if a.reduction == "sum":
        return math.fsum(terms)
    size = math.fsum(sizes)
    return math.fsum(terms) / size if size > 0 else 0.0


# --- the losses ---


def read(
    input: ArrayLike, target: ArrayLike, mask: ArrayLike | None, a: Arguments, rater_weights: ArrayLike | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    logits = as_voxels(input)
    channels = logits.shape[1]
    t, speaks = read_label(as_voxels(target), channels, a, rater_weights)
    counted = voxels_that_count(speaks, mask, channels)
    t = np.where(counted, t, 0.0)
    return logits, predictions(logits, a, counted), t, counted


def jdt(
    loss: str,
    input: ArrayLike,
    target: ArrayLike,
    mask: ArrayLike | None = None,
    *,
    rater_weights: ArrayLike | None = None,
    **given: Any,
) -> np.ndarray | float:
    """The loss called `loss`: JDTLoss and its presets."""
    a = arguments_of(loss, given)
    _, p, t, counted = read(input, target, mask, a, rater_weights)
    value = overlap_loss(p, t, counted, a)
    if isinstance(value, np.ndarray) and a.smooths_double:  # MONAI's DiceLoss keeps a 1 for each spatial dimension
        value = value.reshape(value.shape + (1,) * (np.ndim(input) - 2))
    return value


def jdt_ce(
    input: ArrayLike,
    target: ArrayLike,
    mask: ArrayLike | None = None,
    *,
    rater_weights: ArrayLike | None = None,
    lambda_jdt: float = 0.75,
    lambda_ce: float = 0.25,
    **given: Any,
) -> float:
    """lambda_jdt JDT + lambda_ce cross-entropy."""
    a = arguments_of("JDTCELoss", given)
    logits, p, t, counted = read(input, target, mask, a, rater_weights)
    return lambda_jdt * float(overlap_loss(p, t, counted, a, True)) + lambda_ce * pixel_loss(logits, t, counted, a)


def jdt_focal(
    input: ArrayLike,
    target: ArrayLike,
    mask: ArrayLike | None = None,
    *,
    rater_weights: ArrayLike | None = None,
    lambda_jdt: float = 0.75,
    lambda_focal: float = 0.25,
    focal_gamma: float = 2.0,
    focal_alpha: float | None = None,
    **given: Any,
) -> float:
    """lambda_jdt JDT + lambda_focal focal."""
    a = arguments_of("JDTFocalLoss", given)
    logits, p, t, counted = read(input, target, mask, a, rater_weights)
    focal = pixel_loss(logits, t, counted, a, focal_gamma, focal_alpha)
    return lambda_jdt * float(overlap_loss(p, t, counted, a, True)) + lambda_focal * focal


def value(
    loss: str,
    input: ArrayLike,
    target: ArrayLike,
    mask: ArrayLike | None = None,
    *,
    rater_weights: ArrayLike | None = None,
    **given: Any,
) -> np.ndarray | float:
    """Any of the above by name."""
    if loss == "JDTCELoss":
        return jdt_ce(input, target, mask, rater_weights=rater_weights, **given)
    if loss == "JDTFocalLoss":
        return jdt_focal(input, target, mask, rater_weights=rater_weights, **given)
    return jdt(loss, input, target, mask, rater_weights=rater_weights, **given)


def gradient(
    loss: str, input: ArrayLike, target: ArrayLike, mask: ArrayLike | None = None, *, step: float = 1e-5, **given: Any
) -> np.ndarray:
    """Central differences of the oracle by every entry of input; of the sum, for reduction "none".

    At a tie p = t they are the mean of the slopes on both sides, which is what the norm form's |p - t| with slope 0 gives. There the
    error of a difference falls with the step only, not with its square, so it is extrapolated from two steps.
    """
    input = np.array(input, dtype=np.float64)
    result = np.zeros_like(input)
    for at in np.ndindex(input.shape):
        whole, half = (_difference(loss, input, target, mask, at, size, given) for size in (step, step / 2))
        result[at] = 2 * half - whole
    return result


def _difference(
    loss: str,
    input: np.ndarray,
    target: ArrayLike,
    mask: ArrayLike | None,
    at: tuple[int, ...],
    step: float,
    given: dict[str, Any],
) -> float:
    ahead, behind = input.copy(), input.copy()
    ahead[at] += step
    behind[at] -= step
    return (np.sum(value(loss, ahead, target, mask, **given)) - np.sum(value(loss, behind, target, mask, **given))) / (2 * step)
