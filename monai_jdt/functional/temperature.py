"""The temperature that calibrates a trained network."""

from __future__ import annotations

import math

import torch

from monai_jdt.checks import can_read_values
from monai_jdt.functional.metric_labels import check_unit_range
from monai_jdt.plain_tensors import plain_tensor
from monai_jdt.validation import check_bool, error_sentence

#: Of log T. exp(5) = 148 makes any prediction uniform; without a bound, labels that a network always hits would make T 0.
_WIDEST = 5.0


def fit_temperature(logits: torch.Tensor, label: torch.Tensor, *, softmax: bool = False) -> float:
    r"""Return the T > 0 for which `(logits / T).sigmoid()`, or `.softmax(1)`, has the smallest negative log-likelihood.

    The label is the raters' mean. The log-likelihood is linear in the label, so that this is the mean over the raters. T > 1 makes an
    overconfident network less sure. With sigmoid, the order of voxels by probability stays, and so does a
    decision at .5. With softmax, the largest class of a voxel stays. A decision by expected Dice changes.

    Args:
        logits: `(N, C, *S)`, of validation data.
        label: the raters' mean, `(N, C, *S)` in [0, 1].
        softmax: whether the channels exclude each other, or each is binary by itself.

    Returns:
        T, between exp(-5) and exp(5). It is found by LBFGS, started at 1.

    Raises:
        TypeError: no tensors, or logits that are no floating point.
        ValueError: shapes that differ, nothing to fit, one channel with `softmax`, a label outside [0, 1], or logits not finite.

    References:
        Guo et al., On calibration of modern neural networks, ICML 2017.

    Example:
        >>> logits, label = torch.tensor([[[3.0, -3.0]]]), torch.tensor([[[0.75, 0.25]]])
        >>> round(fit_temperature(logits, label), 3)  # 3 / log 3, since log(.75 / .25) = log 3
        2.731
    """
    logits, label = plain_tensor("logits", logits).detach(), plain_tensor("label", label).detach()
    if not logits.is_floating_point():
        raise TypeError(error_sentence("logits", "floating point", str(logits.dtype)))
    if label.shape != logits.shape:
        raise ValueError(error_sentence("label", f"shape {tuple(logits.shape)}, as logits", str(tuple(label.shape))))
    if logits.ndim < 2 or logits.numel() == 0:
        raise ValueError(error_sentence("logits", "at least one value, (N, C, *S)", f"shape {tuple(logits.shape)}"))
    if check_bool("softmax", softmax) and logits.shape[1] == 1:
        raise ValueError(error_sentence("softmax", "False for one channel", "True", "leave it out"))
    if can_read_values(logits, label):
        check_unit_range("label", label, "divide votes by the number of raters")
        if not bool(logits.isfinite().all()):
            raise ValueError(error_sentence("logits", "finite values", "NaN or infinity"))
    wide = torch.float32 if logits.device.type == "mps" else torch.float64
    log_t = torch.zeros((), dtype=wide, device=logits.device, requires_grad=True)
    optimizer = torch.optim.LBFGS([log_t], max_iter=50, tolerance_grad=1e-10, tolerance_change=1e-12, line_search_fn="strong_wolfe")
    values, target = logits.to(wide), label.to(wide)

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        with torch.enable_grad():
            scaled = values * (-log_t.clamp(-_WIDEST, _WIDEST)).exp()
            if softmax:
                found = -(target * scaled.log_softmax(1)).sum(1).mean()
            else:
                found = torch.nn.functional.binary_cross_entropy_with_logits(scaled, target)
            found.backward()
        return found

    optimizer.step(loss)
    return math.exp(min(max(float(log_t.detach()), -_WIDEST), _WIDEST))
