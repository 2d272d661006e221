"""From the sums of each image and class to a loss: ratio, activity, averages. A few operations on (N, C), written once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import torch

from monai_jdt.definitions import ActiveClasses, AveragingRule, LossRecipe, RatioRule, VoxelSums
from monai_jdt.functional.ranks import sum_over_ranks
from monai_jdt.kernels.labels import any_of
from monai_jdt.validation import error_sentence


def overlap_sums(x: torch.Tensor, y: torch.Tensor, dim: int | tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return `tp = sum min(x, y)`, `fp = sum (x - min)` and `fn = sum (y - min)` of two non-negative tensors.

    For tensors that need neither activation nor mask. The kernels compute the same sums from logits and labels.

    Args:
        x: any shape, floating point.
        y: of the same shape.
        dim: the dimension or dimensions to sum over.

    Returns:
        The three sums, without `dim`. The soft Dice score is `2 tp / (2 tp + fp + fn)`.

    Example:
        >>> overlap_sums(torch.tensor([1.0, 0.5]), torch.tensor([0.5, 1.0]), 0)
        (tensor(1.), tensor(0.5000), tensor(0.5000))
    """
    both = torch.minimum(x, y)
    return both.sum(dim), (x - both).sum(dim), (y - both).sum(dim)


def ratio_loss(tp: torch.Tensor, fp: torch.Tensor, fn: torch.Tensor, rule: RatioRule) -> torch.Tensor:
    """Return the loss of each pair, `(a fp + b fn + dr - nr) / (tp + a fp + b fn + dr)`, then logarithm and power.

    Written as cost over all, not as `1 - score`: it cannot round below 0, and is exactly 0 at fp = fn = 0 if nr = dr.

    Args:
        tp: true positives, any shape.
        fp: false positives, of the same shape.
        fn: false negatives, of the same shape.
        rule: the constants.

    Returns:
        The loss, of the same shape; 0 with gradient 0 where the denominator is 0. The gradient is 0, too, where the denominator is so
        small that one over it is infinite.

    Example:
        >>> one = torch.ones(())
        >>> ratio_loss(3 * one, one, one, RatioRule(smooth_nr=0, smooth_dr=0))
        tensor(0.4000)
    """
    scale = 0.5 if rule.smooths_double else 1.0
    nr, dr = scale * rule.smooth_nr, scale * rule.smooth_dr
    cost = _times(rule.alpha, fp) + _times(rule.beta, fn)
    everything = tp + cost + dr
    loss = cost if dr == nr else cost + (dr - nr)
    divide = torch.div if dr > torch.finfo(everything.dtype).tiny else _divide_small
    loss = divide(loss, everything)
    if rule.log_loss:
        # 1 - l loses digits near l = 1, and log(score) near l = 0; each half is computed where it is exact, and an overlap of
        # nothing at all costs -log(smallest float) rather than infinity.
        far = loss > 0.5
        score = torch.where(far, divide(tp + nr, everything), 1.0).clamp_min(torch.finfo(loss.dtype).tiny)
        loss = torch.where(far, -torch.log(score), -torch.log1p(-torch.where(far, 0.0, loss)))
    if rule.gamma != 1:
        # The slope of x ** gamma at 0 is infinite for gamma < 1; at the optimum the loss is 0 and its gradient is taken as 0.
        best = loss == 0
        loss = torch.where(best, 0.0, torch.where(best, 1.0, loss) ** rule.gamma)
    return loss


def _divide_small(part: torch.Tensor, whole: torch.Tensor) -> torch.Tensor:
    """Return `part / whole`, 0 where `whole` is 0, as it is in a pair without smoothing, prediction and label.

    Where one over `whole` is infinite, the value has no gradient: infinite ones of `part` and `whole` would cancel to NaN. That is so
    with `norm=2` at logits below -44 where the label is 0. The loss is 1 there whatever the logits, so that its gradient is 0.
    """
    small = whole < 1 / torch.finfo(whole.dtype).max
    fixed = torch.where(whole == 0, 0.0, part.detach() / whole.detach())
    return torch.where(small, fixed, part / torch.where(small, 1.0, whole))


def active_pairs(sums: VoxelSums, rule: AveragingRule, first_channel: int = 0) -> torch.Tensor:
    """Return which pairs take part: bool, `(N, C')`, or `(N, 1)` for pooled classes. A pair without a counted voxel never does.

    Raises:
        ValueError: a listed channel that the overlap does not have.
    """
    has_voxels = sums.counted > 0
    if rule.classes is ActiveClasses.LABEL:
        return has_voxels & sums.in_label
    if rule.classes is ActiveClasses.PREDICTION:
        return has_voxels & sums.in_prediction
    if rule.classes is ActiveClasses.EITHER:
        return has_voxels & (sums.in_label | sums.in_prediction)
    if rule.classes is ActiveClasses.POOLED:
        return has_voxels.any(1, keepdim=True)
    if rule.classes is ActiveClasses.LISTED:
        last = first_channel + sums.tp.shape[1] - 1
        check_listed(rule, first_channel, last)
        numbers = torch.arange(first_channel, last + 1, device=has_voxels.device)
        return has_voxels & any_of(numbers, rule.listed)
    return has_voxels


def check_listed(rule: AveragingRule, first_channel: int, last_channel: int) -> None:
    """Check the channels that a rule lists.

    Args:
        rule: which may list some.
        first_channel: the first one in the overlap.
        last_channel: the last one.

    Raises:
        ValueError: a listed channel that the overlap does not have.
    """
    for number in rule.listed or ():
        if not first_channel <= number <= last_channel:
            raise ValueError(error_sentence("classes", f"channel numbers {first_channel} to {last_channel}", str(number)))


def _times(factor: float, values: torch.Tensor) -> torch.Tensor:
    """Return `factor * values`. Most factors are 1, and on (N, C) a call costs more than its arithmetic."""
    return values if factor == 1 else factor * values


def _mean(total: torch.Tensor, count: torch.Tensor) -> torch.Tensor:
    """Return the mean of `count` summands, a whole number, or 0 where there are none."""
    return total / count.clamp_min(1)


def combine(terms: Sequence[tuple[float, VoxelSums, LossRecipe]], class_weight: torch.Tensor | None = None) -> torch.Tensor:
    """Return the loss from the sums of a kernel, or of several: `sum of factor * loss`.

    Args:
        terms: factor, sums and recipe of each part of the loss. All recipes have the same averaging rule.
        class_weight: `(C')` or `()`, multiplies the loss of a class; None: 1.

    Returns:
        A scalar; with `reduction="none"` (one term only) the pairs `(N, C')`, or `(C')` with `batch`, 0 where inactive.
    """
    rule = terms[0][2].averaging
    if rule.reduction != "mean":
        return sum(factor * _unaveraged(sums, recipe, class_weight) for factor, sums, recipe in terms)  # type: ignore[return-value]
    parts = [_parts(sums, recipe, class_weight) for _, sums, recipe in terms]
    if rule.sync:
        parts = _added_over_ranks(parts, rule.group)
    losses = [_times(factor, _finish(part, recipe, class_weight)) for part, (factor, _, recipe) in zip(parts, terms, strict=True)]
    return _sum(losses)


def _sum(terms: list[torch.Tensor]) -> torch.Tensor:
    return reduce(torch.add, terms)


def _pair_loss(
    tp: torch.Tensor, fp: torch.Tensor, fn: torch.Tensor, active: torch.Tensor, rule: RatioRule, class_weight: torch.Tensor | None
) -> torch.Tensor:
    loss = ratio_loss(tp, fp, fn, rule)
    if class_weight is not None:
        loss = loss * class_weight.to(loss.dtype)
    return torch.where(active, loss, 0.0)


def _pooled(sums: VoxelSums, rule: AveragingRule) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    if rule.classes is ActiveClasses.POOLED:
        return sums.tp.sum(1, keepdim=True), sums.fp.sum(1, keepdim=True), sums.fn.sum(1, keepdim=True)
    return sums.tp, sums.fp, sums.fn


def _unaveraged(sums: VoxelSums, recipe: LossRecipe, class_weight: torch.Tensor | None) -> torch.Tensor:
    rule = recipe.averaging
    tp, fp, fn = _pooled(sums, rule)
    active = active_pairs(sums, rule, recipe.voxels.first_channel)
    if rule.batch:
        tp, fp, fn, active = tp.sum(0), fp.sum(0), fn.sum(0), active.any(0)
    loss = recipe.lambda_jdt * _pair_loss(tp, fp, fn, active, recipe.ratio, class_weight)
    if rule.reduction == "none":
        return loss
    return loss.sum() if sums.pixel is None else loss.sum() + recipe.lambda_pixel * sums.pixel.sum()


def averages_of(rule: AveragingRule) -> tuple[tuple[str, float], ...]:
    """Return the names of the averages that a rule mixes, each with its share.

    Args:
        rule: with `reduction="mean"`.
    """
    return rule.average or ((("dataset" if rule.batch else "pair"), 1.0),)


def _parts(sums: VoxelSums, recipe: LossRecipe, class_weight: torch.Tensor | None) -> dict[str, tuple[torch.Tensor, ...]]:
    """Return what is added over images before the averages can be taken. `sync` adds the same over ranks."""
    rule = recipe.averaging
    parts: dict[str, tuple[torch.Tensor, ...]] = {}
    if sums.pixel is not None and sums.pixel_norm is not None:
        parts["pixel"] = (sums.pixel.sum(), sums.pixel_norm.sum())
        if recipe.lambda_jdt == 0:
            return parts
    tp, fp, fn = _pooled(sums, rule)
    active = active_pairs(sums, rule, recipe.voxels.first_channel)
    names = {name for name, _ in averages_of(rule)}
    if "dataset" in names:
        parts["dataset"] = (tp.sum(0), fp.sum(0), fn.sum(0), active.sum(0, dtype=tp.dtype))
    if names != {"dataset"}:
        loss = _pair_loss(tp, fp, fn, active, recipe.ratio, class_weight)
        if "pair" in names:
            parts["pair"] = (loss.sum(), active.sum(dtype=loss.dtype))
        if "class" in names:
            parts["class"] = (loss.sum(0), active.sum(0, dtype=loss.dtype))
        if "image" in names:
            of_image = active.sum(1, dtype=loss.dtype)
            parts["image"] = (_mean(loss.sum(1), of_image).sum(), (of_image > 0).sum(dtype=loss.dtype))
    return parts


def _finish(parts: dict[str, tuple[torch.Tensor, ...]], recipe: LossRecipe, class_weight: torch.Tensor | None) -> torch.Tensor:
    terms = []
    for name, weight in averages_of(recipe.averaging):
        if name not in parts:
            continue
        if name == "dataset":
            tp, fp, fn, found = parts[name]
            loss = _pair_loss(tp, fp, fn, found > 0, recipe.ratio, class_weight)
            term = _mean(loss.sum(), (found > 0).sum(dtype=loss.dtype))
        elif name == "class":
            total, found = parts[name]
            term = _mean(_mean(total, found).sum(), (found > 0).sum(dtype=total.dtype))
        else:
            term = _mean(*parts[name])
        terms.append(_times(recipe.lambda_jdt * weight, term))
    if "pixel" in parts:
        total, norm = parts["pixel"]
        # class weights make norm a number that may be less than 1
        terms.append(_times(recipe.lambda_pixel, total / torch.where(norm > 0, norm, 1.0)))
    return _sum(terms)


def _added_over_ranks(parts: list[dict[str, tuple[torch.Tensor, ...]]], group: str) -> list[dict[str, tuple[torch.Tensor, ...]]]:
    """Add all parts over ranks, in one vector and so in one all_reduce."""
    flat = [values for part in parts for tensors in part.values() for values in tensors]
    # On a CPU each rank has the kernel that its own batch asks for, with sums in the dtype of that kernel; all add in one.
    added = torch.float64 if flat[0].device.type == "cpu" else flat[0].dtype
    total = sum_over_ranks(torch.cat([values.flatten().to(added) for values in flat]), group)
    pieces = iter(total.split([values.numel() for values in flat]))
    return [
        {name: tuple(next(pieces).reshape(values.shape).to(values.dtype) for values in tensors) for name, tensors in part.items()}
        for part in parts
    ]
