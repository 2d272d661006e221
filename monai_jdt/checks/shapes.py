"""Static checks: types, shapes, dtypes and devices of the tensors of a loss."""

from __future__ import annotations

import torch

from monai_jdt.definitions import Activation, LabelForm, VoxelRecipe
from monai_jdt.validation import error_sentence


def shape_text(tensor: torch.Tensor) -> str:
    """Return a shape as messages show it."""
    return str(tuple(tensor.shape))


def _expect_device(name: str, tensor: torch.Tensor, device: torch.device) -> None:
    if tensor.device != device:
        fix = "move it there with .to(input.device)"
        raise ValueError(error_sentence(name, f"a tensor on {device}, where input is", f"one on {tensor.device}", fix))


def check_input(logits: torch.Tensor, recipe: VoxelRecipe) -> None:
    """Check the predictions.

    Args:
        logits: `(N, C, *S)` or `(N, C)`.
        recipe: the loss.

    Raises:
        TypeError: not floating point.
        ValueError: too few dimensions, or a number of channels that the arguments exclude.
    """
    if not logits.is_floating_point():
        raise TypeError(error_sentence("input", "a floating point dtype", str(logits.dtype), "pass logits or probabilities"))
    if logits.ndim < 2 or logits.shape[1] == 0:
        raise ValueError(error_sentence("input", "shape (N, C, *spatial) with C >= 1", f"shape {shape_text(logits)}"))
    channels = logits.shape[1]
    if channels == 1:
        _check_one_channel(logits, recipe)
    regions = recipe.label.regions
    if regions is not None and len(regions) != channels:
        raise ValueError(error_sentence("regions", f"one for each of the {channels} channels of input", str(len(regions))))


def _check_one_channel(logits: torch.Tensor, recipe: VoxelRecipe) -> None:
    if recipe.activation is Activation.SOFTMAX:
        name, value, fix = "softmax", "True", "use sigmoid=True: a softmax over one channel is 1 everywhere"
    elif not recipe.include_background:
        name, value, fix = "include_background", "False", "leave it out: the one channel is the foreground"
    elif recipe.label.form is LabelForm.INDEX and recipe.label.regions is None:
        name, value, fix = "to_onehot_y", "True", "leave it out: with one channel the target is that channel's label"
    else:
        return
    expected = f"at least 2 channels in input with {name}={value}"
    raise ValueError(error_sentence(name, expected, f"1 channel (input of shape {shape_text(logits)})", fix))


def check_target(logits: torch.Tensor, label: torch.Tensor, recipe: VoxelRecipe) -> None:
    """Check a label against the predictions.

    Args:
        logits: `(N, C, *S)` or `(N, C)`, checked.
        label: in the recipe's form.
        recipe: the loss.

    Raises:
        ValueError: a shape or device that does not fit, or regions of values that the label's dtype does not hold.
    """
    form = recipe.label.form
    if form is LabelForm.DENSE:
        fits = label.shape == logits.shape
    else:
        fits = label.ndim == logits.ndim and label.shape[0] == logits.shape[0] and label.shape[2:] == logits.shape[2:]
        fits = fits and (label.shape[1] == 1 if form is LabelForm.INDEX else label.shape[1] > 0)
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
    """Return the message. It is made only when needed: a compiled loss cannot write down sizes that vary."""
    n, channels, *space = logits.shape
    fix = None
    if form is LabelForm.DENSE:
        expected = f"shape {shape_text(logits)}, the shape of input"
        if label.ndim == logits.ndim and label.shape[1] == 1 and label.shape[0] == n and list(label.shape[2:]) == space:
            fix = "for a map of class indices pass to_onehot_y=True (or regions=...)"
        elif label.ndim == logits.ndim - 1 and list(label.shape) == [n, *space]:
            fix = "add the channel dimension with target[:, None]" + (" and pass to_onehot_y=True" if channels > 1 else "")
        elif label.ndim == logits.ndim and label.shape[0] == n and list(label.shape[2:]) == space:
            fix = "for the maps of several raters pass votes=True"
    elif form is LabelForm.INDEX:
        expected = f"class indices of shape {(n, 1, *space)}"
        if label.shape == logits.shape:
            fix = "leave to_onehot_y and regions out: the target looks one-hot or soft"
        elif list(label.shape) == [n, *space]:
            fix = "add the channel dimension with target[:, None]"
    else:
        expected = f"shape {(n, 'R', *space)}, one map of label values for each of R >= 1 raters"
    return error_sentence("target", expected, f"shape {shape_text(label)}", fix)


def largest_of(dtype: torch.dtype) -> int:
    """Return the largest whole number of an integer or bool dtype."""
    return 1 if dtype is torch.bool else torch.iinfo(dtype).max


def check_teacher(logits: torch.Tensor, teacher_logits: torch.Tensor) -> None:
    """Check a teacher's logits against the student's.

    Args:
        logits: the student's, `(N, C, *S)` or `(N, C)`.
        teacher_logits: the teacher's.

    Raises:
        TypeError: not floating point.
        ValueError: a shape or device other than the student's.
    """
    if not teacher_logits.is_floating_point():
        raise TypeError(error_sentence("teacher_logits", "a floating point dtype", str(teacher_logits.dtype), "pass logits"))
    if teacher_logits.shape != logits.shape:
        expected = f"shape {shape_text(logits)}, the shape of input"
        raise ValueError(error_sentence("teacher_logits", expected, f"shape {shape_text(teacher_logits)}"))
    _expect_device("teacher_logits", teacher_logits, logits.device)


def check_mask(logits: torch.Tensor, mask: torch.Tensor, recipe: VoxelRecipe) -> None:
    """Check a mask against the predictions.

    Args:
        logits: `(N, C, *S)` or `(N, C)`.
        mask: `(N, 1, *S)`, or with sigmoid `(N, C, *S)`.
        recipe: the loss.

    Raises:
        ValueError: a shape or device that does not fit.
    """
    one = (logits.shape[0], 1, *logits.shape[2:])
    shapes = [one, tuple(logits.shape)] if recipe.activation is Activation.SIGMOID else [one]
    if tuple(mask.shape) not in shapes:
        per_channel = "pass sigmoid=True, which a mask for each channel needs" if mask.shape == logits.shape else None
        expected = f"shape {' or '.join(map(str, dict.fromkeys(shapes)))}"
        raise ValueError(error_sentence("mask", expected, f"shape {shape_text(mask)}", per_channel))
    _expect_device("mask", mask, logits.device)


def check_rater_weights(logits: torch.Tensor, label: torch.Tensor, weights: torch.Tensor, recipe: VoxelRecipe) -> None:
    """Check rater weights against a stack of votes.

    Args:
        logits: `(N, C, *S)` or `(N, C)`.
        label: votes, `(N, R, *S)`, checked.
        weights: `(N, R)` or `(R,)`.
        recipe: the loss.

    Raises:
        ValueError: weights without votes, or a shape or device that does not fit.
    """
    if recipe.label.form is not LabelForm.VOTES:
        expected = "None without votes=True, where target holds one map for each rater"
        raise ValueError(error_sentence("rater_weights", expected, "weights", "pass votes=True and the raters' maps, or no weights"))
    n, raters = logits.shape[0], label.shape[1]
    if tuple(weights.shape) not in ((n, raters), (raters,)):
        raise ValueError(error_sentence("rater_weights", f"shape ({n}, {raters}) or ({raters},)", f"shape {shape_text(weights)}"))
    _expect_device("rater_weights", weights, logits.device)


def check_class_weight(logits: torch.Tensor, weight: torch.Tensor, recipe: VoxelRecipe) -> None:
    """Check the length and device of `weight`.

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
        expected = f"a tensor on {logits.device}, where input is"
        raise ValueError(error_sentence("weight", expected, f"one on {weight.device}", "move the loss with .to(input.device)"))
    if recipe.pixel is None:
        length, what = logits.shape[1] - recipe.first_channel, "one for each channel in the overlap"
    else:
        length, what = logits.shape[1], "one for each channel of input, background included"
    if weight.shape[0] != length:
        raise ValueError(error_sentence("weight", f"{length} entries ({what})", str(weight.shape[0])))


def check_activated(prob: torch.Tensor, logits: torch.Tensor) -> None:
    """Check what `other_act` returned.

    Args:
        prob: its result.
        logits: what it was given.

    Raises:
        TypeError: no floating point tensor.
        ValueError: another shape than the input's.
    """
    if not isinstance(prob, torch.Tensor) or not prob.is_floating_point():
        got = str(getattr(prob, "dtype", type(prob).__name__))
        raise TypeError(error_sentence("other_act(input)", "a floating point tensor", got))
    if prob.shape != logits.shape:
        expected = f"shape {shape_text(logits)}, the shape of input"
        raise ValueError(error_sentence("other_act(input)", expected, f"shape {shape_text(prob)}"))


def check_pair(x: torch.Tensor, y: torch.Tensor) -> None:
    """Check the two sides of a distance.

    Args:
        x: one side.
        y: the other.

    Raises:
        TypeError: not floating point.
        ValueError: no dimension, or shapes or devices that differ.
    """
    for name, values in (("x", x), ("y", y)):
        if not values.is_floating_point():
            raise TypeError(error_sentence(name, "a floating point dtype", str(values.dtype)))
    if x.ndim == 0:
        raise ValueError(error_sentence("x", "a vector or several", "a number", "pass x.reshape(1)"))
    if x.shape != y.shape:
        raise ValueError(error_sentence("y", f"shape {shape_text(x)}, the shape of x", f"shape {shape_text(y)}"))
    if x.device != y.device:
        fix = "move it there with .to(x.device)"
        raise ValueError(error_sentence("y", f"a tensor on {x.device}, where x is", f"one on {y.device}", fix))
