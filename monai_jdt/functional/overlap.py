"""From the sums of each image and class to a loss: ratio, activity, averages. A few operations on (N, C), written once."""

from __future__ import annotations

import torch

from monai_jdt.definitions import ActiveClasses, AveragingRule, LossRecipe, RatioRule, VoxelSums
from monai_jdt.functional.ranks import sum_over_ranks


def ratio_loss(tp: torch.Tensor, fp: torch.Tensor, fn: torch.Tensor, rule: RatioRule) -> torch.Tensor:
    """The loss of each pair, `(a fp + b fn + dr - nr) / (tp + a fp + b fn + dr)`, then logarithm and power.

    Written as cost over all, not as `1 - score`: it cannot round below 0, and is exactly 0 at fp = fn = 0 if nr = dr.

    Args:
        tp: true positives, any shape.
        fp: false positives, of the same shape.
        fn: false negatives, of the same shape.
        rule: the constants.

    Returns:
        The loss, of the same shape; 0 with gradient 0 where the denominator is 0.

    Example:
        >>> one = torch.ones(())
        >>> ratio_loss(3 * one, one, one, RatioRule(smooth_nr=0, smooth_dr=0))
        tensor(0.4000)
    """
    scale = 0.5 if rule.smooths_double else 1.0
    nr, dr = scale * rule.smooth_nr, scale * rule.smooth_dr
    cost = rule.alpha * fp + rule.beta * fn
    everything = tp + cost + dr
    empty = everything == 0
    everything = torch.where(empty, 1.0, everything)
    loss = torch.where(empty, 0.0, (cost + (dr - nr)) / everything)
    if rule.log_loss:
        # 1 - l loses digits near l = 1, and log(score) near l = 0; each half is computed where it is exact, and an overlap of
        # nothing at all costs -log(smallest float) rather than infinity.
        far = loss > 0.5
        score = torch.where(far, (tp + nr) / everything, 1.0).clamp_min(torch.finfo(loss.dtype).tiny)
        loss = torch.where(far, -torch.log(score), -torch.log1p(-torch.where(far, 0.0, loss)))
    if rule.gamma != 1:
        # The slope of x ** gamma at 0 is infinite for gamma < 1; at the optimum the loss is 0 and its gradient is taken as 0.
        best = loss == 0
        loss = torch.where(best, 0.0, torch.where(best, 1.0, loss) ** rule.gamma)
    return loss


def active_pairs(sums: VoxelSums, rule: AveragingRule, first_channel: int = 0) -> torch.Tensor:
    """Which pairs take part: bool, `(N, C')`, or `(N, 1)` for pooled classes. A pair without a counted voxel never does.

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
        for number in rule.listed:
            if not first_channel <= number <= last:
                raise ValueError(f"classes: expected channel numbers {first_channel} to {last}, came {number}")
        chosen = [first_channel + c in rule.listed for c in range(sums.tp.shape[1])]
        return has_voxels & torch.tensor(chosen, device=has_voxels.device)
    return has_voxels


def _mean(total: torch.Tensor, count: torch.Tensor) -> torch.Tensor:
    """`total / count`, and 0 where there is nothing to count."""
    return total / torch.where(count > 0, count, 1.0)


def combine(sums: VoxelSums, recipe: LossRecipe, class_weight: torch.Tensor | None = None) -> torch.Tensor:
    """The whole loss from the sums of a kernel.

    Args:
        sums: `(N, C')`.
        recipe: the loss.
        class_weight: `(C')` or `()`, multiplies the loss of a class; None: 1.

    Returns:
        A scalar; with `reduction="none"` the pairs `(N, C')`, or `(C')` with `batch`, 0 where inactive.
    """
    rule = recipe.averaging
    active = active_pairs(sums, rule, recipe.voxels.first_channel)
    tp, fp, fn = sums.tp, sums.fp, sums.fn
    if rule.classes is ActiveClasses.POOLED:
        tp, fp, fn = (x.sum(1, keepdim=True) for x in (tp, fp, fn))

    def pair_loss(tp: torch.Tensor, fp: torch.Tensor, fn: torch.Tensor, active: torch.Tensor) -> torch.Tensor:
        loss = ratio_loss(tp, fp, fn, recipe.ratio)
        if class_weight is not None:
            loss = loss * class_weight.to(loss.dtype)
        return torch.where(active, loss, 0.0)

    if rule.reduction != "mean":
        if rule.batch:
            tp, fp, fn, active = tp.sum(0), fp.sum(0), fn.sum(0), active.any(0)
        loss = pair_loss(tp, fp, fn, active)
        if rule.reduction == "none":
            return recipe.lambda_jdt * loss
        total = recipe.lambda_jdt * loss.sum()
        return total if sums.pixel is None else total + recipe.lambda_pixel * sums.pixel.sum()

    # Everything that is added over images goes into `parts`, because sync adds it over ranks as well.
    average = rule.average or ((("dataset" if rule.batch else "pair"), 1.0),)
    names = {name for name, _ in average}
    parts: dict[str, torch.Tensor] = {}
    if "dataset" in names:
        parts["dataset"] = torch.stack([tp.sum(0), fp.sum(0), fn.sum(0), active.to(tp.dtype).sum(0)])
    if names != {"dataset"}:
        loss = pair_loss(tp, fp, fn, active)
        count = active.to(loss.dtype)
        if "pair" in names:
            parts["pair"] = torch.stack([loss.sum(), count.sum()])
        if "class" in names:
            parts["class"] = torch.stack([loss.sum(0), count.sum(0)])
        if "image" in names:
            of_image = count.sum(1)
            parts["image"] = torch.stack([_mean(loss.sum(1), of_image).sum(), (of_image > 0).to(loss.dtype).sum()])
    if sums.pixel is not None and sums.pixel_norm is not None:
        parts["pixel"] = torch.stack([sums.pixel.sum(), sums.pixel_norm.sum()])
    if rule.sync:
        parts = _added_over_ranks(parts)

    terms = []
    for name, weight in average:
        if name == "dataset":
            tp, fp, fn, found = parts[name]
            of_class = pair_loss(tp, fp, fn, found > 0)
            term = _mean(of_class.sum(), (found > 0).to(of_class.dtype).sum())
        elif name == "class":
            total, found = parts[name]
            term = _mean(_mean(total, found).sum(), (found > 0).to(total.dtype).sum())
        else:
            term = _mean(*parts[name])
        terms.append(recipe.lambda_jdt * weight * term)
    if "pixel" in parts:
        terms.append(recipe.lambda_pixel * _mean(*parts["pixel"]))
    return torch.stack(terms).sum()


def _added_over_ranks(parts: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """All parts in one vector, and so in one all_reduce."""
    total = sum_over_ranks(torch.cat([part.flatten() for part in parts.values()]))
    pieces = total.split([part.numel() for part in parts.values()])
    return {name: piece.reshape(part.shape) for (name, part), piece in zip(parts.items(), pieces, strict=True)}
