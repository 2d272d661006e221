"""The switch for value checks, and whether values can be read at all."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from types import TracebackType

import torch
from torch._ops import _len_torch_dispatch_stack_pre_dispatch as pre_dispatch_modes

from monai_jdt.plain_tensors import PLAIN_TYPES
from monai_jdt.validation import check_name

_MODES = ("auto", "on", "off")


@dataclass(frozen=True)
class _Setting:
    """The mode in force, and what the end of the enclosing `with` block restores."""

    mode: str
    outer: _Setting | None = None


_AUTO = _Setting("auto")
_setting: ContextVar[_Setting] = ContextVar("value_checks", default=_AUTO)


class value_checks:
    """Choose when label and prediction *values* are checked. Static checks always run.

    Called as a function, it holds from then on; in a `with` statement, until the block ends. One object may be used in several `with`
    blocks, nested ones too. As `torch.set_grad_enabled`, it concerns the calling thread only (or the asyncio task): other threads,
    and new ones, have "auto" until they choose.

    Args:
        mode: "auto" (eager CPU tensors only), "on" (any eager tensor; waits for the device), or "off". Never checked, whatever
            the mode: meta and fake tensors, `torch.compile`, `torch.export`, `torch.jit.trace`, `make_fx`, functorch transforms.

    Raises:
        ValueError: for another mode.

    Example:
        >>> import torch
        >>> from monai_jdt.losses import DiceSemimetricLoss
        >>> with value_checks("off"):
        ...     loss = DiceSemimetricLoss()(torch.ones(1, 1, 4), torch.full((1, 1, 4), 255.0))
    """

    def __init__(self, mode: str) -> None:
        self._mode = check_name("value_checks", mode, _MODES)
        # `with value_checks(...)` calls this too, so its `__enter__` must know what was in force before.
        self._before = _setting.get()
        self._called = _Setting(mode, self._before.outer)
        _setting.set(self._called)

    def __enter__(self) -> value_checks:
        now = _setting.get()
        _setting.set(_Setting(self._mode, self._before if now is self._called else now))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        outer = _setting.get().outer
        assert outer is not None
        _setting.set(outer)


#: Dispatch modes under which a tensor's value is not there to be read: `make_fx`, functionalisation, fake tensors.
_TRACING_MODES = (
    torch._C._TorchDispatchModeKey.PROXY,
    torch._C._TorchDispatchModeKey.FUNCTIONAL,
    torch._C._TorchDispatchModeKey.FAKE,
)


def can_read_values(*tensors: torch.Tensor | None) -> bool:
    """Return whether the values of all these tensors may be read now, by :class:`value_checks`. None is skipped."""
    if torch.compiler.is_compiling():
        return False
    mode = _setting.get().mode
    if mode == "off":
        return False
    for tensor in tensors:
        if tensor is None:
            continue
        if type(tensor) not in PLAIN_TYPES or tensor.is_meta:
            return False
        if torch._C._functorch.is_functorch_wrapped_tensor(tensor):
            return False
        if mode == "auto" and tensor.device.type != "cpu":
            return False
    return not (torch.jit.is_tracing() or _is_traced())


def _is_traced() -> bool:
    """Return whether torch records the operations of this thread, so that a branch on a value is an error or is recorded."""
    if torch._C._len_torch_dispatch_stack() > 0 and any(torch._C._get_dispatch_mode(key) is not None for key in _TRACING_MODES):
        return True
    return pre_dispatch_modes() > 0
