"""What the losses around the JDT losses should be, in numpy: Lovász extension, distillation, area means, distances.

Each by its definition, with loops, and by another way than a fast program would take.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from tests.oracles import norm_form


def jaccard_of_mistakes(mistakes: set[int], foreground: set[int]) -> float:
    """1 - |F \\ M| / |F u M|: the Jaccard loss of the prediction that is wrong on the set M (arXiv:1705.08790, eq. 6)."""
    union = foreground | mistakes
    return 1 - len(foreground - mistakes) / len(union) if union else 0.0


def lovasz_extension(errors: Sequence[float], foreground: Sequence[bool]) -> float:
    """sum_i m_(i) (Delta({1 ... i}) - Delta({1 ... i - 1})), errors m sorted downwards (arXiv:1705.08790, definition 1)."""
    order = sorted(range(len(errors)), key=lambda i: -errors[i])
    members = {i for i, yes in enumerate(foreground) if yes}
    mistakes: set[int] = set()
    total, before = 0.0, 0.0
    for i in order:
        mistakes = mistakes | {i}
        now = jaccard_of_mistakes(mistakes, members)
        total += errors[i] * (now - before)
        before = now
    return total


def lovasz_softmax(
    logits: ArrayLike,
    index: ArrayLike,
    mask: ArrayLike | None = None,
    *,
    classes: str | Sequence[int] = "present",
    per_image: bool = False,
    ignore_index: int | None = None,
    include_background: bool = True,
) -> float:
    """Mean over classes (and images) of the extension, at the errors |p_c - t_c| of the counted voxels."""
    x, t = norm_form.as_voxels(logits), norm_form.as_voxels(index)[:, 0]
    n, channels, voxels = x.shape
    m = np.ones((n, 1, voxels)) if mask is None else norm_form.as_voxels(mask)
    groups = [[i] for i in range(n)] if per_image else [list(range(n))]
    per_group = []
    for images in groups:
        counted = [(i, k) for i in images for k in range(voxels) if m[i, 0, k] == 1 and t[i, k] != ignore_index]
        p = {(i, k): [math.exp(v) for v in norm_form.log_softmax(list(x[i, :, k]))] for i, k in counted}
        values = []
        for c in range(0 if include_background else 1, channels):
            foreground = [t[i, k] == c for i, k in counted]
            if not counted or (classes == "present" and not any(foreground)):
                continue
            if not isinstance(classes, str) and c not in classes:
                continue
            errors = [abs(p[at][c] - inside) for at, inside in zip(counted, foreground, strict=True)]
            values.append(lovasz_extension(errors, foreground))
        if values:
            per_group.append(norm_form.mean(values))
    return norm_form.mean(per_group)


def divergence(student: Sequence[float], teacher: Sequence[float], temperature: float) -> float:
    """T^2 KL(q_T || p_T) of one voxel, from logits of the classes (arXiv:1503.02531)."""
    log_p = norm_form.log_softmax([v / temperature for v in student])
    log_q = norm_form.log_softmax([v / temperature for v in teacher])
    return temperature**2 * math.fsum(math.exp(q) * (q - p) for p, q in zip(log_p, log_q, strict=True))


def distillation(
    student: ArrayLike,
    target: ArrayLike | None,
    teacher: ArrayLike,
    mask: ArrayLike | None = None,
    *,
    lambda_label: float = 0.5,
    lambda_teacher: float = 0.5,
    temperature: float = 1.0,
    lambda_jdt: float = 0.75,
    lambda_ce: float = 0.25,
    **given: Any,
) -> float:
    """Both halves, for the arguments that do not need a label form of their own: dense labels, no weight.

    With a sigmoid each channel is a distribution of two classes, of logits (x, 0).
    """
    a = norm_form.arguments_of("JDTCELoss", given)
    label_half = 0.0
    if target is not None:
        label_half = norm_form.jdt_ce(student, target, mask, lambda_jdt=lambda_jdt, lambda_ce=lambda_ce, **given)
    s, q = norm_form.as_voxels(student), norm_form.as_voxels(teacher)
    everywhere = np.ones((s.shape[0], s.shape[2]), dtype=bool)
    if target is not None:
        _, everywhere = norm_form.read_label(norm_form.as_voxels(target), s.shape[1], a)
    counted = norm_form.voxels_that_count(everywhere, mask, s.shape[1])
    unsmoothed = norm_form.arguments_of("JDTCELoss", {**given, "label_smoothing": 0.0, "ignore_index": None})
    p, r = norm_form.predictions(s, a, counted), norm_form.predictions(q, a, counted)
    overlap = float(norm_form.overlap_loss(p, r, counted, unsmoothed, True))
    terms = []
    for i, k in itertools.product(range(s.shape[0]), range(s.shape[2])):
        if a.softmax:
            if counted[i, :, k].any():
                terms.append(divergence(list(s[i, :, k]), list(q[i, :, k]), temperature))
        else:
            terms += [divergence([s[i, j, k], 0.0], [q[i, j, k], 0.0], temperature) for j in range(s.shape[1]) if counted[i, j, k]]
    pixel = math.fsum(terms) if a.reduction == "sum" else norm_form.mean(terms)
    return lambda_label * label_half + lambda_teacher * (lambda_jdt * overlap + lambda_ce * pixel)


def area_mean(label: np.ndarray, counted: np.ndarray, size: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """The mean of each block's counted voxels, and whether it has any; label (N, C, *S), counted (N, 1 or C, *S), S divisible."""
    factors = [s // o for s, o in zip(label.shape[2:], size, strict=True)]
    means, has = np.zeros((*label.shape[:2], *size)), np.zeros((*counted.shape[:2], *size), dtype=bool)
    for at in np.ndindex(*label.shape[:2], *size):
        block = tuple(slice(i * f, (i + 1) * f) for i, f in zip(at[2:], factors, strict=True))
        channel = min(at[1], counted.shape[1] - 1)
        inside = counted[at[0], channel][block].astype(bool)
        has[at[0], channel][at[2:]] = inside.any()
        if inside.any():
            means[at] = label[at[:2]][block][inside].mean()
    return means, has


def distance(x: Sequence[float], y: Sequence[float], coefficient: float, smooth: float = 0.0) -> float:
    """c |x - y| / (tp + c |x - y|) in the norm form, tp smoothed as (2 tp + s) / 2; two zero vectors: 0."""
    gap = math.fsum(abs(u - v) for u, v in zip(x, y, strict=True))
    tp = (math.fsum(x) + math.fsum(y) - gap) / 2
    denominator = tp + coefficient * gap + smooth / 2
    return coefficient * gap / denominator if denominator else 0.0
