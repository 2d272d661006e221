"""The fast kernels in autograd: as a function of Python, and as operators of torch where torch looks at what is called.

A kernel is two functions of a :class:`monai_jdt.kernels.kernel_input.KernelInput`, sums and gradient. Numpy's saves the predictions of
a small step from the one to the other, the others nothing.
The operators take the kernel and the recipe as text. They are opaque to `torch.compile` (and so work in a full graph), have shapes
without running, and say what they cannot do: a second derivative, and vmap. Outside of `torch.compile` and the like, the way through
torch's dispatcher would be half of the time of a small step, and a plain function does the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple, NoReturn

import torch

from monai_jdt.definitions import Activation, Backend, LabelForm, LabelReading, PixelRule, PixelTerm, VoxelRecipe, VoxelSums
from monai_jdt.kernels.eager import eager_voxel_sums
from monai_jdt.kernels.kernel_input import KernelInput
from monai_jdt.kernels.labels import ignore_index_as, relative_weights
from monai_jdt.kernels.registry import KERNELS
from monai_jdt.kernels.rows import DIFFERENTIABLE_ROWS, Row, joined_rows, named_sums, split_rows
from monai_jdt.plain_tensors import is_batched, is_observed


class KernelCall(NamedTuple):
    """A kernel and what it is given, flat in space.

    Args:
        kernel: which one.
        given: its input; the recipe's ignored value is one that the label's dtype can hold.
        shape: of the logits.
    """

    kernel: Backend
    given: KernelInput
    shape: torch.Size

    @classmethod
    def of(
        cls,
        kernel: Backend,
        recipe: VoxelRecipe,
        logits: torch.Tensor,
        label: torch.Tensor,
        mask: torch.Tensor | None = None,
        rater_weights: torch.Tensor | None = None,
        class_weight: torch.Tensor | None = None,
    ) -> KernelCall:
        """Return the call for tensors with any number of dimensions of space.

        Args:
            kernel: which one.
            recipe: what to sum.
            logits: as for :func:`monai_jdt.kernels.eager.eager_voxel_sums`, like the others.
            label: the label.
            mask: which voxels count.
            rater_weights: for votes.
            class_weight: for the pixel term.
        """
        rater_weights, class_weight = _kernel_weights(recipe, logits, label, rater_weights, class_weight)
        mask = None if mask is None else _flat(mask.to(torch.bool))
        recipe = _with_held_value(recipe, label.dtype)
        return cls(kernel, KernelInput(_flat(logits), _flat(label), recipe, mask, rater_weights, class_weight), logits.shape)

    def sums(self, saved: list[torch.Tensor] | None = None) -> torch.Tensor:
        """Return the kernel's sums, `(9, N, C)`, in the order of :class:`monai_jdt.kernels.rows.Row`.

        Args:
            saved: gets what the kernel saves for the gradient, if it saves anything.
        """
        kernel = KERNELS[self.kernel]
        sums, _ = kernel.functions()
        return sums(self.given, saved) if kernel.saves else sums(self.given)

    def gradient(self, upstream: torch.Tensor, *others: torch.Tensor) -> torch.Tensor:
        """Return the gradient of `(upstream * sums).sum()`, shaped as the logits.

        Args:
            upstream: `(4, N, C)`, for the rows TP, FP, FN, PIXEL.
            others: what the sums have saved. For Triton's kernel a number on the device that multiplies the gradient; none: 1.
        """
        _, gradient = KERNELS[self.kernel].functions()
        return gradient(self.given, upstream, *others).view(self.shape)


def _kernel_weights(
    recipe: VoxelRecipe,
    logits: torch.Tensor,
    label: torch.Tensor,
    rater_weights: torch.Tensor | None,
    class_weight: torch.Tensor | None,
) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """Return the weights of raters and classes as a kernel takes them."""
    dtype = torch.promote_types(logits.dtype, torch.float32)
    if recipe.label.form is LabelForm.VOTES:
        rater_weights = relative_weights(rater_weights, label, dtype)
    # Without a pixel term, weights are for what comes after the sums.
    if class_weight is not None:
        class_weight = None if recipe.pixel is None else class_weight.to(logits.device, dtype).expand(logits.shape[1])
    return rater_weights, class_weight


def fast_voxel_sums(
    kernel: Backend,
    logits: torch.Tensor,
    label: torch.Tensor,
    recipe: VoxelRecipe,
    mask: torch.Tensor | None = None,
    rater_weights: torch.Tensor | None = None,
    class_weight: torch.Tensor | None = None,
    *,
    eager_twice: bool = False,
) -> tuple[VoxelSums, torch.Tensor]:
    """The sums of :func:`monai_jdt.kernels.eager.eager_voxel_sums`, by a fast kernel.

    Args:
        kernel: which one.
        logits: as there, like the others.
        label: the label.
        recipe: what to sum.
        mask: which voxels count.
        rater_weights: for votes.
        class_weight: for the pixel term.
        eager_twice: a gradient that is to be differentiated again (`create_graph=True`) is the eager kernel's.

    Returns:
        The sums, and a tensor that is not 0 everywhere if a value check would find something (or might).

    Raises:
        RuntimeError: under vmap, and in a second derivative without `eager_twice`.
    """
    if not is_observed():
        sums = _PlainStep.apply(logits, label, mask, rater_weights, class_weight, kernel, recipe, eager_twice)
        return named_sums(sums, recipe)
    rater_weights, class_weight = _kernel_weights(recipe, logits, label, rater_weights, class_weight)
    rows = _voxel_sums(
        _flat(logits),
        _flat(label),
        None if mask is None else _flat(mask.to(torch.bool)),
        rater_weights,
        class_weight,
        kernel.value,
        _text_of(recipe),
    )
    return named_sums(split_rows(rows, recipe), recipe)


class _PlainStep(torch.autograd.Function):
    """The sums of a step, as :func:`monai_jdt.kernels.rows.split_rows` returns them."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> tuple[torch.Tensor | None, ...]:
        *tensors, kernel, recipe, eager_twice = arguments
        ctx.save_for_backward(*tensors)
        ctx.settings = (kernel, recipe, eager_twice)
        # A sum that a loss does not use has no gradient, rather than one of zeros.
        ctx.set_materialize_grads(False)
        results = split_rows(KernelCall.of(kernel, recipe, *tensors).sums(), recipe)
        ctx.mark_non_differentiable(*(each for each in results[DIFFERENTIABLE_ROWS:] if each is not None))
        return results

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
        tensors, (kernel, recipe, eager_twice) = ctx.saved_tensors, ctx.settings
        logits = tensors[0]
        batched = any(gradient is not None and is_batched(gradient) for gradient in gradients)
        if batched and not eager_twice:
            raise RuntimeError(_ONLY_EAGER.format(what="batched gradients"))
        if eager_twice and (torch.is_grad_enabled() or batched):
            return (_eager_gradient(gradients[:DIFFERENTIABLE_ROWS], tensors, recipe), *[None] * 7)
        upstream = joined_rows(gradients[:DIFFERENTIABLE_ROWS], logits.shape[:2], recipe)
        if upstream is None:
            return (None,) * 8
        if is_observed():
            gradient = opaque_gradient(upstream, tensors, kernel, recipe)
        elif torch.is_grad_enabled():
            gradient = GradientOnce.apply(upstream, *tensors, kernel, recipe)
        else:
            gradient = KernelCall.of(kernel, recipe, *tensors).gradient(upstream)
        return (gradient, *[None] * 7)


def opaque_gradient(upstream: torch.Tensor, tensors: Sequence[Any], kernel: Backend, recipe: VoxelRecipe) -> torch.Tensor:
    """Return the gradient by the logits as the operator gives it, into which torch does not look.

    Args:
        upstream: `(4, N, C)`, for the rows TP, FP, FN, PIXEL.
        tensors: logits, label, mask, rater weights and class weight.
        kernel: a fast one.
        recipe: what was summed.
    """
    logits, label, mask, *given = tensors
    flat = (_flat(logits), _flat(label), None if mask is None else _flat(mask.to(torch.bool)))
    weights = _kernel_weights(recipe, logits, label, *given)
    return _voxel_sums_gradient(upstream, *flat, *weights, kernel.value, _text_of(recipe)).view(logits.shape)


def _eager_gradient(gradients: Sequence[torch.Tensor | None], tensors: Sequence[Any], recipe: VoxelRecipe) -> torch.Tensor | None:
    """Return the gradient by the logits, the first of the tensors, as a function of the logits and of the gradients by the sums."""
    logits, label, *others = tensors
    # By an alias: what is hooked to the logits themselves must run once, after the backward pass of the step.
    with torch.enable_grad():
        alias = logits.view_as(logits)
        sums = eager_voxel_sums(alias, label, recipe, *others)
    pairs = [
        (part, gradient)
        for part, gradient in zip((sums.tp, sums.fp, sums.fn, sums.pixel), gradients, strict=True)
        if part is not None and gradient is not None
    ]
    if not pairs:
        return None
    parts, upstream = zip(*pairs, strict=True)
    (gradient,) = torch.autograd.grad(parts, alias, upstream, create_graph=torch.is_grad_enabled())
    return gradient


class GradientOnce(torch.autograd.Function):
    """The gradient of a step, in a graph for second derivatives, which a kernel does not have."""

    @staticmethod
    def forward(ctx: Any, upstream: torch.Tensor, *arguments: Any) -> torch.Tensor:
        """Return the gradient by the logits."""
        *tensors, kernel, recipe = arguments
        return KernelCall.of(kernel, recipe, *tensors).gradient(upstream)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> NoReturn:
        """Say how to have a second derivative."""
        _no_second_derivative(ctx)


def _flat(tensor: torch.Tensor) -> torch.Tensor:
    """`(N, K, V)`: a view where the strides of space allow it (contiguous and channels_last do), a copy where not."""
    return tensor.unsqueeze(-1) if tensor.ndim == 2 else tensor.flatten(2)


def _text_of(recipe: VoxelRecipe) -> str:
    """Return a recipe as the one line that an operator takes and :func:`recipe_of_text` reads.

    `torch.compile` traces this function: f-strings alone, since it can trace neither json nor the repr of a dataclass. A number that
    differs between two losses is symbolic to it, and has no text; `int()` and `float()` make it a constant of the graph.
    """
    label, pixel = recipe.label, recipe.pixel
    regions = "None"
    if label.regions is not None:
        regions = "/".join([",".join([f"{int(value)}" for value in region]) for region in label.regions])
    ignored = "None" if label.ignore_index is None else f"{int(label.ignore_index)}"
    rule = "None None None"
    if pixel is not None:
        alpha = "None" if pixel.focal_alpha is None else f"{float(pixel.focal_alpha)}"
        rule = f"{pixel.term.value} {float(pixel.focal_gamma)} {alpha}"
    overlap = f"{recipe.activation.value} {recipe.include_background} {int(recipe.norm)} {float(recipe.threshold)}"
    return f"{overlap} {label.form.value} {regions} {ignored} {float(label.smoothing)} {rule}"


@lru_cache(maxsize=256)
def recipe_of_text(text: str) -> VoxelRecipe:
    """Return the recipe that a line describes.

    Args:
        text: the fields of a recipe, of its label and of its pixel term, `None` for None.
    """
    activation, background, norm, threshold, form, regions, ignore_index, smoothing, term, gamma, alpha = text.split(" ")
    return VoxelRecipe(
        activation=Activation(activation),
        label=LabelReading(
            form=LabelForm(form),
            regions=None if regions == "None" else tuple(tuple(map(int, region.split(","))) for region in regions.split("/")),
            ignore_index=None if ignore_index == "None" else int(ignore_index),
            smoothing=float(smoothing),
        ),
        include_background=background == "True",
        norm=int(norm),
        threshold=float(threshold),
        pixel=None if term == "None" else PixelRule(PixelTerm(term), float(gamma), None if alpha == "None" else float(alpha)),
    )


def _with_held_value(recipe: VoxelRecipe, label_dtype: torch.dtype) -> VoxelRecipe:
    """Return the recipe with an ignored value that labels of a dtype can hold."""
    held = ignore_index_as(recipe.label.ignore_index, label_dtype)
    return recipe if held == recipe.label.ignore_index else replace(recipe, label=replace(recipe.label, ignore_index=held))


def _given(text: str, logits: torch.Tensor, label: torch.Tensor, *others: torch.Tensor | None) -> KernelInput:
    return KernelInput(logits, label, _with_held_value(recipe_of_text(text), label.dtype), *others)


@torch.library.custom_op("monai_jdt::voxel_sums", mutates_args=())
def _voxel_sums(
    logits: torch.Tensor,
    label: torch.Tensor,
    mask: torch.Tensor | None,
    rater_weights: torch.Tensor | None,
    class_weight: torch.Tensor | None,
    kernel: str,
    recipe: str,
) -> torch.Tensor:
    sums, _ = KERNELS[Backend(kernel)].functions()
    return sums(_given(recipe, logits, label, mask, rater_weights, class_weight))


@_voxel_sums.register_fake
def _voxel_sums_shape(logits: torch.Tensor, *others: Any) -> torch.Tensor:
    dtype = torch.promote_types(logits.dtype, torch.float32)
    return logits.new_empty((len(Row), *logits.shape[:2]), dtype=dtype)


@torch.library.custom_op("monai_jdt::voxel_sums_gradient", mutates_args=())
def _voxel_sums_gradient(
    upstream: torch.Tensor,
    logits: torch.Tensor,
    label: torch.Tensor,
    mask: torch.Tensor | None,
    rater_weights: torch.Tensor | None,
    class_weight: torch.Tensor | None,
    kernel: str,
    recipe: str,
) -> torch.Tensor:
    _, gradient = KERNELS[Backend(kernel)].functions()
    return gradient(_given(recipe, logits, label, mask, rater_weights, class_weight), upstream)


@_voxel_sums_gradient.register_fake
def _voxel_sums_gradient_shape(upstream: torch.Tensor, logits: torch.Tensor, *others: Any) -> torch.Tensor:
    return torch.empty_like(logits)


def _save(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    ctx.save_for_backward(*inputs[:5])
    ctx.settings = inputs[5:]


def _backward(ctx: Any, upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    logits_gradient = _voxel_sums_gradient(upstream[:DIFFERENTIABLE_ROWS].contiguous(), *ctx.saved_tensors, *ctx.settings)
    return (logits_gradient, *[None] * 6)


_voxel_sums.register_autograd(_backward, setup_context=_save)

_ONLY_EAGER = "the fast kernels have no {what}. Fix: construct the loss with backend='eager', which has"


def _no_second_derivative(ctx: Any, *upstream: torch.Tensor) -> NoReturn:
    raise RuntimeError(_ONLY_EAGER.format(what="second derivative"))


_voxel_sums_gradient.register_autograd(_no_second_derivative)


def _no_vmap(info: Any, in_dims: Any, *arguments: Any) -> NoReturn:
    raise RuntimeError(_ONLY_EAGER.format(what="vmap"))


_voxel_sums.register_vmap(_no_vmap)
_voxel_sums_gradient.register_vmap(_no_vmap)
