"""Class weights as a buffer that keeps their precision, whatever a module is cast to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ctypes import c_float
from numbers import Real
from typing import Any

import torch

from monai_jdt.validation import check_number, check_sequence, error_sentence

_EXPECTED = "a number, a sequence of numbers or a tensor"


def weight_numbers(weight: Sequence[float] | float | torch.Tensor | None) -> float | tuple[float, ...] | None:
    """Return the numbers of a `weight` argument.

    Args:
        weight: one number, or one for each class.

    Returns:
        A number or a tuple; None for None, and for a meta or fake tensor, which has no numbers.

    Raises:
        TypeError: not numbers.
        ValueError: no number, nested ones, or a negative, infinite or NaN one.
    """
    if weight is None:
        return None
    if isinstance(weight, torch.Tensor):
        if weight.is_complex() or weight.ndim > 1:
            wrong = TypeError if weight.is_complex() else ValueError
            raise wrong(
                error_sentence("weight", _EXPECTED, f"{weight.dtype} of shape {tuple(weight.shape)}", "one number for each class")
            )
        if not _has_numbers(weight):
            return None
        weight = weight.tolist()
    elif getattr(weight, "ndim", None) == 0 and hasattr(weight, "tolist"):
        weight = weight.tolist()  # numpy's array of one number
    if isinstance(weight, Real | str):
        return check_number("weight", weight, 0)
    numbers = tuple(_plain(number) for number in check_sequence("weight", weight, _EXPECTED))
    nested = [len(number) for number in numbers if hasattr(number, "__len__") and not isinstance(number, str)]
    if nested or not numbers:
        shape = (len(numbers), *nested[:1])
        raise ValueError(error_sentence("weight", "one number or one for each class", f"shape {shape}"))
    return tuple(check_number("weight", number, 0) for number in numbers)


def _has_numbers(weight: torch.Tensor) -> bool:
    """Return False for a meta or fake tensor."""
    return not weight.is_meta and type(weight).__torch_dispatch__ is torch.Tensor.__torch_dispatch__


def shown_weight(weight: torch.Tensor) -> Any:
    """Return the numbers of the buffer for `repr`, or the shape of a meta or fake tensor."""
    return weight.tolist() if _has_numbers(weight) else f"of shape {tuple(weight.shape)}"


def _plain(number: Any) -> Any:
    """Return the number in an array or tensor of one, as in `[torch.tensor(1.0), 2.0]`. True is 1, as in a tensor of bools."""
    number = number.item() if getattr(number, "ndim", None) == 0 and hasattr(number, "item") else number
    return float(number) if isinstance(number, bool) else number


def weight_buffer(weight: Any, numbers: float | tuple[float, ...] | None) -> torch.Tensor | None:
    """Return the buffer of a loss, a copy that the caller's tensor does not change.

    Args:
        weight: the argument.
        numbers: its numbers, by :func:`weight_numbers`.

    Returns:
        `()` or `(C,)`, float32 where that holds the numbers exactly, else float64, on the device of `weight` or the default one. Under
        a default device of "meta" it lies on the CPU, since a checkpoint of the network alone does not hold these numbers.
    """
    if weight is None:
        return None
    # A tensor of inference mode could not be saved for a backward pass later on.
    with torch.inference_mode(False):
        if numbers is None:
            return weight.detach().clone()
        device = weight.device if isinstance(weight, torch.Tensor) else torch.get_default_device()
        return exact_tensor(numbers, torch.device("cpu") if device.type == "meta" else device)


def exact_tensor(numbers: float | tuple[float, ...], device: torch.device) -> torch.Tensor:
    """Return a tensor in float32 where that holds the numbers exactly, else in float64 where the device has it.

    Args:
        numbers: one, or one for each class.
        device: where it will lie.
    """
    each = numbers if isinstance(numbers, tuple) else (numbers,)
    narrow = all(c_float(number).value == number for number in each)
    return _moved(torch.tensor(numbers, dtype=torch.float32 if narrow else torch.float64, device="cpu"), device)


def _moved(weight: torch.Tensor, device: torch.device) -> torch.Tensor:
    try:
        return weight.to(device)
    except (TypeError, RuntimeError):  # no float64 there, as on Apple's GPUs
        return weight.to(torch.float32).to(device)


def apply_to_weight(
    weight: torch.Tensor, numbers: float | tuple[float, ...] | None, change: Callable[[torch.Tensor], torch.Tensor]
) -> torch.Tensor:
    """Do to the buffer what `Module._apply` does: it follows a device, and a dtype only if that is wider.

    Args:
        weight: the buffer.
        numbers: the constructor's. They are restored when the buffer leaves the meta device, which holds no numbers.
        change: what the module does to its tensors.

    Returns:
        The new buffer.
    """
    # No numbers are taken from the result: `half` rounds them, `to_empty` drops them. The probe is narrow, since a device
    # may refuse float64, and the buffer itself where it can be, since `share_memory` works in place.
    after = change(weight.to(torch.float32))
    if weight.is_meta and not after.is_meta and numbers is not None:
        return exact_tensor(numbers, after.device)
    return _moved(weight.to(torch.promote_types(weight.dtype, after.dtype)), after.device)
