"""What is checked about tensors before they are used, and the switch for the checks that must look at values.

Static checks (types, shapes, dtypes, devices) always run. Value checks (ranges, whole numbers, softmax labels that sum to 1)
read the data, which costs a pass and, on an accelerator, a wait; so by default they run on eager CPU tensors only.
"""

from __future__ import annotations

import logging
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from types import TracebackType

import torch
from torch._ops import _len_torch_dispatch_stack_pre_dispatch as pre_dispatch_modes

from monai_jdt.definitions import Activation, LabelForm, VoxelRecipe
from monai_jdt.plain_tensors import PLAIN_TYPES
from monai_jdt.validation import error_sentence

logger = logging.getLogger(__name__)

#: Values this far outside [0, 1] pass: averages and resampling round.
RANGE_TOLERANCE = 1e-3
#: Softmax labels may sum to 1 within this: enough for bfloat16 labels of many classes.
SUM_TOLERANCE = 1e-2

_MODES = ("auto", "on", "off")


@dataclass(frozen=True)
class _Setting:
    """The mode in force, and what the end of the enclosing `with` block restores."""

    mode: str
    outer: _Setting | None = None


_AUTO = _Setting("auto")
_setting: ContextVar[_Setting] = ContextVar("value_checks", default=_AUTO)


class value_checks:
    """Choose when label and prediction *values* are checked; static checks are never switched off.

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
        if mode not in _MODES:
            raise ValueError(f"value_checks: expected one of {_MODES}, got {mode!r}")
        self._mode = mode
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
    """Whether the values of all these tensors may be read now; see :class:`value_checks`. None is skipped."""
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
    """Whether torch records the operations of this thread, so that a branch on a value is an error or is recorded."""
    if torch._C._len_torch_dispatch_stack() > 0 and any(torch._C._get_dispatch_mode(key) is not None for key in _TRACING_MODES):
        return True
    return pre_dispatch_modes() > 0


def _shape(tensor: torch.Tensor) -> str:
    return str(tuple(tensor.shape))


def _expect_device(name: str, tensor: torch.Tensor, device: torch.device) -> None:
    if tensor.device != device:
        raise ValueError(f"{name}: expected it on {device}, where input is, got {tensor.device}; move it there with .to(input.device)")


def check_input(logits: torch.Tensor, recipe: VoxelRecipe) -> None:
    """Static checks of the predictions.

    Args:
        logits: `(N, C, *S)` or `(N, C)`.
        recipe: the loss.

    Raises:
        TypeError: not floating point.
        ValueError: too few dimensions, or a number of channels that the arguments exclude.
    """
    if not logits.is_floating_point():
        raise TypeError(f"input: expected a floating point dtype, got {logits.dtype}; pass logits or probabilities")
    if logits.ndim < 2 or logits.shape[1] == 0:
        raise ValueError(f"input: expected shape (N, C, *spatial) with C >= 1, got {_shape(logits)}")
    channels = logits.shape[1]
    if channels == 1:
        wrong = None
        if recipe.activation is Activation.SOFTMAX:
            wrong, fix = "softmax=True", "use sigmoid=True: a softmax over one channel is 1 everywhere"
        elif not recipe.include_background:
            wrong, fix = "include_background=False", "leave it out: the one channel is the foreground"
        elif recipe.label.form is LabelForm.INDEX and recipe.label.regions is None:
            wrong, fix = "to_onehot_y=True", "leave it out: with one channel the target is that channel's label"
        if wrong is not None:
            raise ValueError(f"{wrong}: expected at least 2 channels in input, got 1 (shape {_shape(logits)}); {fix}")
    regions = recipe.label.regions
    if regions is not None and len(regions) != channels:
        raise ValueError(f"regions: expected one for each of the {channels} channels of input, got {len(regions)}")


def check_target(logits: torch.Tensor, label: torch.Tensor, recipe: VoxelRecipe) -> None:
    """Static checks of a label against the predictions.

    Raises:
        ValueError: a shape or device that does not fit; the message says which and how to mend it.
    """
    n, _, *space = logits.shape
    form = recipe.label.form
    if form is LabelForm.DENSE:
        fits = label.shape == logits.shape
    elif form is LabelForm.INDEX:
        fits = list(label.shape) == [n, 1, *space]
    else:
        fits = label.ndim == logits.ndim and label.shape[0] == n and list(label.shape[2:]) == space and label.shape[1] > 0
    if not fits:
        raise ValueError(_target_misfit(logits, label, form))
    _expect_device("target", label, logits.device)
    if recipe.label.regions is not None and not label.is_floating_point():
        largest = largest_of(label.dtype)
        for region in recipe.label.regions:
            if min(region) > largest:
                fix = "give the label values that the files hold, or load them in a wider dtype"
                raise ValueError(error_sentence("regions", f"values that a label of {label.dtype} can have", f"{list(region)}", fix))


def _target_misfit(logits: torch.Tensor, label: torch.Tensor, form: LabelForm) -> str:
    """Made only where it is needed: a compiled loss cannot write down sizes that vary."""
    n, channels, *space = logits.shape
    hint = ""
    if form is LabelForm.DENSE:
        expected = f"{_shape(logits)}, the shape of input"
        if label.ndim == logits.ndim and label.shape[1] == 1 and label.shape[0] == n and list(label.shape[2:]) == space:
            hint = "; for a map of class indices pass to_onehot_y=True (or regions=...)"
        elif label.ndim == logits.ndim - 1 and list(label.shape) == [n, *space]:
            hint = "; add the channel dimension with target[:, None]" + (" and pass to_onehot_y=True" if channels > 1 else "")
    elif form is LabelForm.INDEX:
        expected = f"{(n, 1, *space)}, class indices"
        if label.shape == logits.shape:
            hint = "; the target looks one-hot or soft: leave to_onehot_y and regions out"
        elif list(label.shape) == [n, *space]:
            hint = "; add the channel dimension with target[:, None]"
    else:
        expected = f"{(n, 'R', *space)}, one map of label values for each of R >= 1 raters"
    return f"target: expected shape {expected}, got {_shape(label)}{hint}"


def check_teacher(logits: torch.Tensor, teacher_logits: torch.Tensor) -> None:
    """Static checks of a teacher's logits.

    Raises:
        TypeError: not floating point.
        ValueError: a shape or device other than the student's.
    """
    if not teacher_logits.is_floating_point():
        raise TypeError(f"teacher_logits: expected a floating point dtype, got {teacher_logits.dtype}; pass logits")
    if teacher_logits.shape != logits.shape:
        raise ValueError(f"teacher_logits: expected shape {_shape(logits)}, the shape of input, got {_shape(teacher_logits)}")
    _expect_device("teacher_logits", teacher_logits, logits.device)


def check_teacher_values(teacher_logits: torch.Tensor, mask: torch.Tensor | None) -> None:
    """Value check of a teacher's logits, on the voxels that count; nothing where values may not be read.

    Raises:
        ValueError: NaN or infinite logits.
    """
    if not can_read_values(teacher_logits, mask):
        return
    wrong = ~torch.isfinite(teacher_logits)
    if mask is not None:
        wrong = wrong & mask
    if bool(wrong.any()):
        value = teacher_logits[wrong][0].item()
        raise ValueError(f"teacher_logits: expected finite logits, got {value:g} at {int(wrong.sum())} places; look at the teacher")


def check_mask(logits: torch.Tensor, mask: torch.Tensor, recipe: VoxelRecipe) -> None:
    """Static checks of a mask, and its values where values may be read.

    Raises:
        ValueError: a shape or device that does not fit, or values other than 0 and 1.
    """
    one = (logits.shape[0], 1, *logits.shape[2:])
    shapes = [one, tuple(logits.shape)] if recipe.activation is Activation.SIGMOID else [one]
    if tuple(mask.shape) not in shapes:
        per_channel = "; a mask for each channel needs sigmoid=True" if tuple(mask.shape) == tuple(logits.shape) else ""
        raise ValueError(f"mask: expected shape {' or '.join(map(str, dict.fromkeys(shapes)))}, got {_shape(mask)}{per_channel}")
    _expect_device("mask", mask, logits.device)
    if mask.dtype is not torch.bool and can_read_values(mask):
        wrong = (mask != 0) & (mask != 1)
        if bool(wrong.any()):
            value = mask[wrong].flatten()[0].item()
            raise ValueError(f"mask: expected bool or 0 and 1 only (1 = counts), got {value:g}; a mask is not a weight")


def check_rater_weights(logits: torch.Tensor, label: torch.Tensor, weights: torch.Tensor | None, recipe: VoxelRecipe) -> None:
    """Static checks of rater weights, and their values where values may be read.

    Raises:
        ValueError: weights without votes, a shape or device that does not fit, or a negative or non-finite weight.
    """
    if weights is None:
        return
    if recipe.label.form is not LabelForm.VOTES:
        raise ValueError("rater_weights: expected only with votes=True, where target holds one map for each rater, got without")
    n, raters = logits.shape[0], label.shape[1]
    if tuple(weights.shape) not in ((n, raters), (raters,)):
        raise ValueError(f"rater_weights: expected shape ({n}, {raters}) or ({raters},), got {_shape(weights)}")
    _expect_device("rater_weights", weights, logits.device)
    if can_read_values(weights) and weights.numel() > 0:
        wrong = ~((weights >= 0) & (weights < float("inf")))
        if bool(wrong.any()):
            raise ValueError(f"rater_weights: expected finite numbers >= 0 (0 = missing), got {weights[wrong].flatten()[0].item():g}")
        if not bool(weights.any()):
            _tell_of_nobody()


@lru_cache(maxsize=1)
def _tell_of_nobody() -> None:
    """A line in the log, once: a batch without raters is allowed, but a training of such batches learns nothing."""
    logger.warning("rater_weights: every rater of a batch has weight 0 (is missing), so the loss ignores all of its images and is 0")


def check_class_weight(logits: torch.Tensor, weight: torch.Tensor, recipe: VoxelRecipe) -> None:
    """Static check of the length and device of `weight`.

    Args:
        logits: the predictions, with C channels.
        weight: a number `()`, or one for each channel: of the overlap, or with a pixel term of all.
        recipe: the loss.

    Raises:
        ValueError: another length or device.
    """
    if weight.ndim == 0:
        return
    if weight.device != logits.device:
        raise ValueError(f"weight: expected it on {logits.device}, where input is, got {weight.device}; move the loss with .to(device)")
    if recipe.pixel is None:
        expected, what = logits.shape[1] - recipe.first_channel, "one for each channel in the overlap"
    else:
        expected, what = logits.shape[1], "one for each channel of input, background included"
    if weight.shape[0] != expected:
        raise ValueError(f"weight: expected {expected} entries ({what}), got {weight.shape[0]}")


def check_label_values(
    logits: torch.Tensor,
    label: torch.Tensor,
    mask: torch.Tensor | None,
    rater_weights: torch.Tensor | None,
    recipe: VoxelRecipe,
) -> None:
    """Value checks of a label, on the voxels that count; nothing where values may not be read.

    Raises:
        ValueError: dense values outside [0, 1] or NaN, softmax labels that do not sum to 1, indices that are not whole, or are
            no class.
    """
    if label.numel() == 0 or not can_read_values(logits, label, mask, rater_weights):
        return
    if recipe.label.form is LabelForm.DENSE:
        _check_dense_values(label, mask, recipe)
    else:
        _check_class_values(logits.shape[1], label, mask, rater_weights, recipe)


def _check_dense_values(label: torch.Tensor, mask: torch.Tensor | None, recipe: VoxelRecipe) -> None:
    if label.dtype is torch.bool:
        low, high = 0.0, 1.0
    else:
        low, high = (float(bound) for bound in torch.aminmax(label))
    in_range = low >= -RANGE_TOLERANCE and high <= 1 + RANGE_TOLERANCE
    counted = None if mask is None else mask.to(torch.bool)
    if recipe.label.ignore_index is not None:
        spoken = ~_equals(label, recipe.label.ignore_index).all(1, keepdim=True)
        counted = spoken if counted is None else counted & spoken
    if not in_range:
        wrong = ~((label >= -RANGE_TOLERANCE) & (label <= 1 + RANGE_TOLERANCE))
        if counted is not None:
            wrong = wrong & counted
        if bool(wrong.any()):
            values = label[wrong]
            values = values.to(torch.promote_types(values.dtype, torch.float32))
            worst = values[(values.nan_to_num(float("inf")) - 0.5).abs().argmax()].item()
            hint = "divide a 0/255 mask by 255, apply a sigmoid or softmax to logits"
            if recipe.label.ignore_index is None:
                hint += ", name a marker of unlabelled voxels by ignore_index or a mask"
            raise ValueError(f"target: expected labels in [0, 1], got {worst:g} (and {values.numel() - 1} more values outside); {hint}")
    if recipe.activation is Activation.SOFTMAX:
        total = label.sum(1, keepdim=True, dtype=torch.float32)
        wrong = (total - 1).abs() > SUM_TOLERANCE
        if counted is not None:
            wrong = wrong & counted
        if bool(wrong.any()):
            raise ValueError(
                f"target: expected softmax labels that sum to 1 over the channels (within {SUM_TOLERANCE:g}), got a sum of "
                f"{total[wrong][0].item():g} at {int(wrong.sum())} voxels; add the background channel, or use sigmoid=True"
            )


def largest_of(dtype: torch.dtype) -> int:
    """The largest whole number of an integer or bool dtype."""
    return 1 if dtype is torch.bool else torch.iinfo(dtype).max


def _equals(label: torch.Tensor, value: int) -> torch.Tensor:
    """`label == value` without the wrap-around that a narrow integer dtype gives to a value outside its range."""
    if not label.is_floating_point():
        if label.dtype is torch.bool:
            label = label.to(torch.uint8)
        info = torch.iinfo(label.dtype)
        if not info.min <= value <= info.max:
            return torch.zeros_like(label, dtype=torch.bool)
    return label == value


def check_hard_values(logits: torch.Tensor, label: torch.Tensor, mask: torch.Tensor | None, recipe: VoxelRecipe) -> None:
    """Value check of a dense label that must be hard, on the voxels that count; nothing where values may not be read.

    Raises:
        ValueError: values other than 0 and 1.
    """
    if recipe.label.form is not LabelForm.DENSE or not can_read_values(logits, label, mask):
        return
    wrong = (label != 0) & (label != 1)
    if recipe.label.ignore_index is not None:
        wrong = wrong & ~_equals(label, recipe.label.ignore_index).all(1, keepdim=True)
    if mask is not None:
        wrong = wrong & mask.to(torch.bool)
    if bool(wrong.any()):
        raise ValueError(
            f"target: expected a hard label, one-hot with 0 and 1 only, got {label[wrong].flatten()[0].item():g}; this loss counts "
            "right and wrong voxels, so for soft labels use JaccardMetricLoss or DiceSemimetricLoss"
        )


def _check_class_values(
    channels: int, label: torch.Tensor, mask: torch.Tensor | None, rater_weights: torch.Tensor | None, recipe: VoxelRecipe
) -> None:
    votes = recipe.label.form is LabelForm.VOTES
    counted = torch.ones_like(label, dtype=torch.bool)
    if recipe.label.ignore_index is not None:
        counted &= ~_equals(label, recipe.label.ignore_index)
    if mask is not None:
        counted &= mask.to(torch.bool).any(1, keepdim=True)
    if rater_weights is not None:
        weights = rater_weights if rater_weights.ndim == 2 else rater_weights[None]
        counted &= (weights > 0).reshape(*weights.shape, *[1] * (label.ndim - 2))
    name = "votes" if votes else "class indices"
    if label.is_floating_point():
        wrong = (label != label.round()) & counted
        if bool(wrong.any()):
            what = "leave votes=True out for a soft label" if votes else "leave to_onehot_y=True (or regions) out for a soft label"
            raise ValueError(f"target: expected {name}, whole numbers, got {label[wrong][0].item():g}; {what}")
    if recipe.label.regions is not None:
        wrong, legal = (label < 0) & counted, ">= 0"
    else:
        last = max(channels - 1, 1)
        # A narrow integer dtype would wrap the number it is compared with: 128 is -128 in int8.
        beyond = label > last if label.is_floating_point() or last <= largest_of(label.dtype) else torch.zeros_like(counted)
        wrong, legal = ((label < 0) | beyond) & counted, f"0 to {last}"
    if bool(wrong.any()):
        value = label[wrong][0].item()
        hint = f"name a marker of unlabelled voxels by ignore_index={value:.0f}, or map the values to regions"
        if value in (float("inf"), float("-inf")):
            hint = "look where the label was made"
        raise ValueError(f"target: expected {name} {legal}, got {value:.0f} at {int(wrong.sum())} voxels; {hint}")


def check_activated(prob: torch.Tensor, logits: torch.Tensor) -> None:
    """Static checks of what `other_act` returned.

    Raises:
        TypeError: no floating point tensor.
        ValueError: another shape than the input's.
    """
    if not isinstance(prob, torch.Tensor) or not prob.is_floating_point():
        raise TypeError(f"other_act(input): expected a floating point tensor, got {getattr(prob, 'dtype', type(prob).__name__)}")
    if prob.shape != logits.shape:
        raise ValueError(f"other_act(input): expected shape {_shape(logits)}, the shape of input, got {_shape(prob)}")


def check_pair(x: torch.Tensor, y: torch.Tensor) -> None:
    """Static checks of the two sides of a distance.

    Raises:
        TypeError: not floating point.
        ValueError: shapes or devices that differ.
    """
    for name, values in (("x", x), ("y", y)):
        if not values.is_floating_point():
            raise TypeError(f"{name}: expected a floating point dtype, got {values.dtype}")
    if x.shape != y.shape:
        raise ValueError(f"y: expected shape {_shape(x)}, the shape of x, got {_shape(y)}")
    if x.device != y.device:
        raise ValueError(f"y: expected it on {x.device}, where x is, got {y.device}; move it there with .to(x.device)")


def check_non_negative(x: torch.Tensor, y: torch.Tensor) -> None:
    """Value check of the vectors of a distance; nothing where values may not be read.

    Raises:
        ValueError: a negative number.
    """
    for name, values in (("x", x), ("y", y)):
        if can_read_values(values) and bool((values < 0).any()):
            raise ValueError(
                f"{name}: expected numbers >= 0, got {values[values < 0].flatten()[0].item():g}; the distance means nothing for "
                "signed vectors: map them first, or pass negative='softplus' or 'sigmoid'"
            )


def check_predictions(prob: torch.Tensor, mask: torch.Tensor | None, recipe: VoxelRecipe) -> None:
    """Value check of predictions that no sigmoid or softmax made; nothing where values may not be read.

    NaN passes: it makes the loss NaN, which says more than an error about a range would.

    Raises:
        ValueError: values outside [0, 1] on a voxel that counts.
    """
    if recipe.activation in (Activation.SIGMOID, Activation.SOFTMAX) or prob.numel() == 0 or not can_read_values(prob, mask):
        return
    wrong = (prob < -RANGE_TOLERANCE) | (prob > 1 + RANGE_TOLERANCE)
    if mask is not None:
        wrong = wrong & mask.to(torch.bool)
    if bool(wrong.any()):
        value = prob[wrong].flatten()[0].item()
        if recipe.activation is Activation.OTHER:
            what, fix = "other_act(input)", "use an activation with values in [0, 1]; the overlap is not defined outside"
        else:
            what, fix = "input", "pass sigmoid=True or softmax=True for logits"
        raise ValueError(f"{what}: expected probabilities in [0, 1], got {value:g}; {fix}")
