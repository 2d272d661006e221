"""Which loss for which metric, as constructor arguments."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from monai_jdt.definitions import average_of
from monai_jdt.validation import check_name, error_sentence

_JACCARD = ("miou", "iou", "mjaccard", "jaccard")
_DICE = ("mdice", "dice")


def loss_for_metric(metric: str, average: str | Mapping[str, float] = "dataset", *, labels: str = "soft") -> dict[str, Any]:
    r"""Return the arguments of :class:`~monai_jdt.losses.JDTLoss` (and its compounds) that optimise a metric.

    Train with the metric that you report (arXiv:2310.19252): the coefficients follow from the metric's ratio, the average from how it
    is taken over images and classes.

    Args:
        metric: "mDice" or "Dice"; "mIoU", "IoU", "mJaccard" or "Jaccard"; or "F" and a number b > 0 such as "F2", the F-measure
            that weighs recall b times as much as precision: :math:`\alpha = 1 / (1 + b^2), \beta = b^2 / (1 + b^2)`. Capital letters
            make no difference.
        average: "dataset" (sums over the data, then the mean over classes), "image", "class", or weights of the three.
        labels: "soft" or "hard". With hard labels, classes that an image or batch does not have are left out, as such metrics do;
            with soft labels all classes take part. Both are the papers' defaults.

    Returns:
        ``alpha``, ``beta``, ``average`` and ``classes``.

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: an unknown metric, average or kind of labels.

    Example:
        >>> loss_for_metric("mDice", average="image")
        {'alpha': 0.5, 'beta': 0.5, 'average': 'image', 'classes': 'all'}
        >>> from monai_jdt.losses import JDTLoss
        >>> loss = JDTLoss(softmax=True, **loss_for_metric("mIoU", average="class", labels="hard"))
    """
    if not isinstance(metric, str):
        raise TypeError(error_sentence("metric", "a name such as 'mDice'", f"{type(metric).__name__} {metric!r}"))
    weights = average_of(average)
    if weights is None:
        raise ValueError(error_sentence("average", "'dataset', 'image', 'class' or weights of them", "None"))
    check_name("labels", labels, ("soft", "hard"))
    name = metric.lower()
    f_measure = re.fullmatch(r"f(\d+(?:\.\d+)?)", name)
    if name in _JACCARD:
        alpha = beta = 1.0
    elif name in _DICE:
        alpha = beta = 0.5
    elif f_measure and float(f_measure[1]) > 0:
        square = float(f_measure[1]) ** 2
        alpha, beta = 1 / (1 + square), square / (1 + square)
    else:
        expected = f"one of {[*_DICE, *_JACCARD]}, or 'F' and a number > 0 such as 'F2'"
        raise ValueError(error_sentence("metric", expected, repr(metric)))
    return {
        "alpha": alpha,
        "beta": beta,
        "average": average if isinstance(average, str) else dict(weights),
        "classes": "present" if labels == "hard" else "all",
    }
