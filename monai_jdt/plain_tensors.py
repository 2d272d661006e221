"""Tensors as the losses work on them: without a subclass, whole, and such that autograd can keep them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch._ops import _len_torch_dispatch_stack_pre_dispatch as pre_dispatch_modes
from torch.utils._python_dispatch import _len_torch_dispatch_stack

from monai_jdt.validation import error_sentence

#: PyTorch 2.6 cannot tell an export from a compilation. There a compilation takes the eager kernel as well.
is_exporting: Callable[[], bool] = getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)

#: Types whose tensors have values of their own, and no rules of their own.
PLAIN_TYPES = (torch.Tensor, torch.nn.Parameter)


#: The dtypes of one byte that have operators for a loss; float8 has not.
_BYTES = (torch.bool, torch.uint8, torch.int8)


def plain_tensor(name: str, value: Any) -> torch.Tensor:
    """Return the tensor without its subclass, such as MONAI's MetaTensor. Memory and graph are shared.

    A distributed tensor is gathered: the result is the whole tensor, on every rank. Wide unsigned integers become int64, since torch
    has hardly any operators for them.

    Args:
        name: the argument's, for the message.
        value: what was given.

    Raises:
        TypeError: not a tensor; a subclass that `torch.compile` cannot trace; complex, quantised or float8 values; or a layout such as
            sparse or nested, for which torch lacks the operators of a loss.
    """
    if type(value) not in PLAIN_TYPES:
        value = _without_subclass(name, value)
    if value.is_complex():
        raise TypeError(error_sentence(name, "real numbers", str(value.dtype)))
    if value.layout is not torch.strided or value.is_nested:
        kind, fix = (
            ("a nested tensor", f"torch.stack({name}.unbind())") if value.is_nested else (str(value.layout), f"{name}.to_dense()")
        )
        raise TypeError(error_sentence(name, "a dense tensor", kind, f"pass {fix}"))
    if value.is_quantized or (value.dtype.itemsize == 1 and value.dtype not in _BYTES):
        fix = f"pass {name}.dequantize()" if value.is_quantized else f"pass {name}.float()"
        raise TypeError(error_sentence(name, "float16 or wider, or whole numbers", str(value.dtype), fix))
    return value.to(torch.int64) if value.dtype in (torch.uint16, torch.uint32, torch.uint64) else value


def _without_subclass(name: str, value: Any) -> torch.Tensor:
    if not isinstance(value, torch.Tensor):
        raise TypeError(error_sentence(name, "a torch.Tensor", _kind_given(value), _fix_of_no_tensor(name, value)))
    if hasattr(value, "full_tensor"):  # DTensor, told without an import of torch.distributed
        return value.full_tensor()
    if type(value).__torch_dispatch__ is not torch.Tensor.__torch_dispatch__:
        return value  # a fake tensor, or another that is more than its data
    if torch.compiler.is_compiling():
        # The backends of torch.compile refuse such an input of a graph, even where nothing but its data is used.
        kind = type(value).__name__
        raise TypeError(error_sentence(name, "a plain tensor under torch.compile", kind, f"pass {name}.as_subclass(torch.Tensor)"))
    return value.as_subclass(torch.Tensor)


def _kind_given(value: Any) -> str:
    if value is None:
        return "None"
    kind = type(value).__name__
    return f"{kind} of {len(value)}" if isinstance(value, list | tuple | Mapping) else kind


def _fix_of_no_tensor(name: str, value: Any) -> str | None:
    if isinstance(value, Mapping):
        fix = f"pass one entry, {name}[...]"
        return f"{fix}, or for heads SoftDeepSupervisionLoss(loss)(list(input.values()), target)" if name == "input" else fix
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        if any(isinstance(item, torch.Tensor) for item in value):
            if name == "input":
                return "for the heads of deep supervision, wrap the loss: SoftDeepSupervisionLoss(loss)(input, target)"
            if name == "target":
                return "pass the label at full resolution; SoftDeepSupervisionLoss(loss) makes that of smaller heads from it"
            return f"pass torch.stack({name})"
        return f"pass torch.tensor({name})"
    if value is None and name == "target":
        return "pass a label; without labels, DistillationLoss learns from a teacher alone"
    if hasattr(value, "__array__"):
        return f"pass torch.as_tensor({name})"
    return None


def kept_for_backward(tensor: torch.Tensor) -> torch.Tensor:
    """Return the tensor, or a copy if it was made under `torch.inference_mode()`, which autograd refuses to save.

    An alias of its memory would not do: autograd does not notice when an inference tensor is overwritten before backward.

    Args:
        tensor: a plain one.
    """
    if torch.compiler.is_compiling() or not tensor.is_inference() or not torch.is_grad_enabled():
        return tensor
    return tensor.clone()


def is_batched(tensor: torch.Tensor) -> bool:
    """Return whether a tensor stands for several, under vmap or in a backward pass with `is_grads_batched=True`.

    Args:
        tensor: any.
    """
    if torch.compiler.is_compiling():
        return False
    return torch._C._functorch.is_batchedtensor(tensor) or torch._C._functorch.is_legacy_batchedtensor(tensor)


def is_observed() -> bool:
    """Return whether something besides autograd sees the calls of torch's operators, such as a tracer or functorch.

    It must not look into code that reads a tensor's memory by other means, as numba, Triton and numpy do: a tracer would take what they
    return for constants.
    """
    return (
        torch.compiler.is_compiling()
        or torch.jit.is_tracing()
        or _len_torch_dispatch_stack() > 0
        or pre_dispatch_modes() > 0
        or torch._C._functorch.peek_interpreter_stack() is not None
    )
