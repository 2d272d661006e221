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

#: Temperatures of a search over cases that are not kept, from 1 / 7.4 to 7.4, each 10 % above the one before.
SEARCHED_TEMPERATURES: tuple[float, ...] = tuple(math.exp(step / 10) for step in range(-20, 21))


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
    logits, label = _checked_logits(logits, label, softmax)
    wide = _wide_dtype(logits)
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


def nll_slopes(logits: torch.Tensor, label: torch.Tensor, *, softmax: bool = False) -> torch.Tensor:
    r"""Return the slope of the negative log-likelihood in 1 / T at each of :data:`SEARCHED_TEMPERATURES`.

    The likelihood is that of :func:`fit_temperature`, summed over images, channels and voxels, so that the slopes of several cases add
    up and no case has to be kept. The slope is :math:`\sum_v (p_v(T) - t_v) x_v` with logits x and label t. It falls as T grows.

    Args:
        logits: `(N, C, *S)`.
        label: the raters' mean, `(N, C, *S)` in [0, 1]; with `softmax` it sums to 1 over the channels.
        softmax: whether the channels exclude each other, or each is binary by itself.

    Returns:
        `(41,)`, float64 (on Apple's MPS float32).

    Raises:
        TypeError: as :func:`fit_temperature`.
        ValueError: likewise.

    Example:
        >>> slopes = nll_slopes(torch.tensor([[[3.0, -3.0]]]), torch.tensor([[[0.75, 0.25]]]))
        >>> round(temperature_of_slopes(slopes), 2)  # 3 / log 3, as `fit_temperature` finds it
        2.73
    """
    logits, label = _checked_logits(logits, label, softmax)
    wide = _wide_dtype(logits)
    values, target = logits.float(), label.float()
    slopes = torch.empty(len(SEARCHED_TEMPERATURES), dtype=wide, device=logits.device)
    for place, temperature in enumerate(SEARCHED_TEMPERATURES):
        scaled = values / temperature
        prob = scaled.softmax(1) if softmax else scaled.sigmoid()
        slopes[place] = ((prob - target) * values).sum(dtype=wide)
    return slopes


def temperature_of_slopes(slopes: torch.Tensor) -> float:
    """Return the temperature at which slopes of :func:`nll_slopes`, or sums of such slopes, are 0.

    Between two searched temperatures the slope is taken as linear in log T, which is within .2 % of :func:`fit_temperature`.

    Args:
        slopes: one for each of :data:`SEARCHED_TEMPERATURES`.

    Returns:
        The temperature, or the first or last searched one if the best lies beyond. 1 if all slopes are 0: then all are equally good.
    """
    values = slopes.tolist()
    if not any(values):
        return 1.0
    after = next((place for place, slope in enumerate(values) if slope <= 0), len(values))
    if after in (0, len(values)):
        return SEARCHED_TEMPERATURES[min(after, len(values) - 1)]
    low, high = SEARCHED_TEMPERATURES[after - 1], SEARCHED_TEMPERATURES[after]
    return low * (high / low) ** (values[after - 1] / (values[after - 1] - values[after]))


def _checked_logits(logits: torch.Tensor, label: torch.Tensor, softmax: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Return both as plain tensors without gradient, after the checks that :func:`fit_temperature` lists."""
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
    return logits, label


def _wide_dtype(logits: torch.Tensor) -> torch.dtype:
    return torch.float32 if logits.device.type == "mps" else torch.float64
