"""The negative log likelihood of several raters under a probability map."""

from __future__ import annotations

from typing import Any

import torch

from monai_jdt.functional.metric_labels import VOTES, LabelRule, as_rows, read_metric_label, read_prediction, wide_dtype
from monai_jdt.validation import error_sentence


def rater_nll(
    y_pred: Any,
    y: Any,
    classwise: bool | None = None,
    eps: float = 1e-7,
    rule: LabelRule = VOTES,
    *,
    rater_weights: Any = None,
    include_background: bool = True,
) -> torch.Tensor:
    r"""Score :math:`-\log p` of what each rater says, averaged over raters and voxels, in each image.

    With m the weighted mean of the raters that speak at a voxel, and the mean over the voxels where any does,

    * classes together: :math:`\frac1V \sum_v \sum_c -m_c \log p_c`, one score for each image, over all channels;
    * `classwise`: :math:`\frac1V \sum_v -m \log p - (1 - m) \log(1 - p)`, one score for each channel.

    Args:
        y_pred: probabilities, `(N, C, *S)` or `(N, C)`, in [0, 1].
        y: votes `(N, R, *S)`.
        classwise: None: True for one channel and for regions, else False.
        eps: p is clipped to at least this, and for `classwise` to at most 1 - eps.
        rule: regions and the ignored value; `rule.votes` is True.
        rater_weights: `(N, R)` or `(R,)`, 0 = missing; None: 1 each.
        include_background: False leaves channel 0 out; for `classwise` only.

    Returns:
        `(N, 1)` or `(N, C)`; float64 (Apple's MPS: float32); NaN where no voxel counts.

    Raises:
        TypeError: no tensors.
        ValueError: classes together with one channel, with regions, or without the background; shapes that do not fit; values
            outside [0, 1]; votes that are no class.

    Example:
        >>> p, votes = torch.tensor([[[0.5, 0.75]]]), torch.tensor([[[0, 1], [1, 1]]])
        >>> rater_nll(p, votes)  # (log 2 + log 4/3) / 2
        tensor([[0.4904]], dtype=torch.float64)
    """
    prob = read_prediction(y_pred, include_background)
    separate = prob.shape[1] == 1 or rule.regions is not None
    if classwise is False and separate:
        raise ValueError(error_sentence("classwise", "None or True for one channel or regions", "False", "leave it out"))
    by_class = separate if classwise is None else classwise
    if not by_class and not include_background:
        raise ValueError(error_sentence("include_background", "True where classes are scored together", "False", "pass classwise=True"))
    label = read_metric_label(prob, y, rule, rater_weights)
    rows, first, wide = as_rows(prob), 0 if include_background else 1, wide_dtype(prob.device)
    scores = torch.zeros(prob.shape[0], prob.shape[1] - first, dtype=wide, device=prob.device)
    for image in range(prob.shape[0]):
        for channel in range(first, prob.shape[1]):
            m, counted = label.soft(image, channel)
            p = rows[image, channel].to(wide)
            loss = -m * p.clamp(min=eps).log()
            if by_class:
                p = p.clamp(eps, 1 - eps)
                loss = -m * p.log() - (1 - m) * torch.log1p(-p)
            scores[image, channel - first] = loss.mean() if counted is None else loss[counted].mean()
    return scores if by_class else scores.sum(1, keepdim=True)
