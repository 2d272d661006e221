"""The fast kernels as operators of torch: one for the sums, one for their gradient, with the kernel's name among the arguments.

As operators they are opaque to `torch.compile` (and so work in a full graph), have shapes without running, and say what they
cannot do: a second derivative, and vmap. A kernel is two functions of a :class:`Step`; it saves nothing between them.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NoReturn

import torch

from monai_jdt.definitions import Activation, Backend, LabelForm, LabelReading, PixelRule, PixelTerm, VoxelRecipe, VoxelSums
from monai_jdt.kernels.labels import held_marker, relative_weights
from monai_jdt.kernels.rows import GRADED, Row, voxel_sums_of

#: Where a kernel's `<its name>_sums(step)` and `<its name>_gradient(step, upstream)` are; imported at its first use.
_MODULES = {
    Backend.CHUNKED: "monai_jdt.kernels.chunked.kernel",
    Backend.NUMBA: "monai_jdt.kernels.numba.launch",
    Backend.TRITON: "monai_jdt.kernels.triton.kernels",
}


@dataclass(frozen=True)
class Step:
    """What a fast kernel is given, space flattened to V voxels; none of it is to be changed.

    Args:
        logits: `(N, C, V)`, floating point, any strides.
        label: `(N, C, V)`, `(N, 1, V)` or `(N, R, V)`, by the recipe's label form; any real dtype, any strides.
        recipe: what to sum.
        mask: bool `(N, 1, V)` or `(N, C, V)`, True = counts; or None.
        rater_weights: for votes `(N, R)`, of the sums' dtype, the largest of an image 1 (or all 0).
        class_weight: `(C,)` of the sums' dtype, for the pixel term; or None.
    """

    logits: torch.Tensor
    label: torch.Tensor
    recipe: VoxelRecipe
    mask: torch.Tensor | None
    rater_weights: torch.Tensor | None
    class_weight: torch.Tensor | None

    @property
    def dtype(self) -> torch.dtype:
        """Of the sums: float32, or float64 for float64 logits."""
        return torch.promote_types(self.logits.dtype, torch.float32)

    def new_rows(self) -> torch.Tensor:
        """Zeros for the result of `sums`, `(9, N, C)`."""
        return self.logits.new_zeros((len(Row), *self.logits.shape[:2]), dtype=self.dtype)


def fast_voxel_sums(
    kernel: Backend,
    logits: torch.Tensor,
    label: torch.Tensor,
    recipe: VoxelRecipe,
    mask: torch.Tensor | None = None,
    rater_weights: torch.Tensor | None = None,
    class_weight: torch.Tensor | None = None,
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

    Returns:
        The sums, and a tensor that is not 0 everywhere if a value check would find something (or might).

    Raises:
        RuntimeError: under vmap, and in a second derivative.
    """
    dtype = torch.promote_types(logits.dtype, torch.float32)
    if not torch.compiler.is_compiling() and label.is_inference() and not torch.is_inference_mode_enabled():
        # cannot be kept for backward as it is
        label = label.clone()
    reading = recipe.label
    pixel = recipe.pixel
    if reading.form is LabelForm.VOTES:
        rater_weights = relative_weights(rater_weights, label, dtype)
    # without a pixel term, weights are for what comes after the sums
    class_weight = None if class_weight is None or pixel is None else class_weight.to(logits.device, dtype).expand(logits.shape[1])
    rows = _voxel_sums(
        _flat(logits),
        _flat(label),
        None if mask is None else _flat(mask.to(torch.bool)),
        rater_weights,
        class_weight,
        kernel.value,
        recipe.activation.value,
        reading.form.value,
        None if reading.regions is None else [number for region in reading.regions for number in (*region, _END)],
        held_marker(reading.ignore_index, label.dtype),
        reading.smoothing,
        recipe.include_background,
        recipe.norm,
        recipe.threshold,
        None if pixel is None else pixel.term.value,
        1.0 if pixel is None else pixel.focal_gamma,
        None if pixel is None else pixel.focal_alpha,
    )
    return voxel_sums_of(rows, recipe), rows[Row.SUSPECT].detach()


#: Ends a region in the operators' flat list; label values are >= 0.
_END = -1


def _flat(tensor: torch.Tensor) -> torch.Tensor:
    """`(N, K, V)`: a view where the strides of space allow it (contiguous and channels_last do), a copy where not."""
    return tensor.unsqueeze(-1) if tensor.ndim == 2 else tensor.flatten(2)


@lru_cache(maxsize=256)
def _recipe(
    activation: str,
    form: str,
    regions: tuple[int, ...] | None,
    ignore_index: int | None,
    smoothing: float,
    include_background: bool,
    norm: int,
    threshold: float,
    pixel: str | None,
    focal_gamma: float,
    focal_alpha: float | None,
) -> VoxelRecipe:
    nested: list[list[int]] = [[]]
    for number in regions or ():
        if number == _END:
            nested.append([])
        else:
            nested[-1].append(number)
    return VoxelRecipe(
        activation=Activation(activation),
        label=LabelReading(
            form=LabelForm(form),
            regions=None if regions is None else tuple(map(tuple, nested[:-1])),
            ignore_index=ignore_index,
            smoothing=smoothing,
        ),
        include_background=include_background,
        norm=norm,
        threshold=threshold,
        pixel=None if pixel is None else PixelRule(PixelTerm(pixel), focal_gamma, focal_alpha),
    )


@lru_cache(maxsize=4)
def import_failure(kernel: Backend) -> str:
    """Why a kernel's module cannot be imported, its compiler being absent or broken; empty if it can.

    Args:
        kernel: a fast one.
    """
    try:
        importlib.import_module(_MODULES[kernel])
    except Exception as error:  # whatever a broken installation does
        return f"{type(error).__name__}: {error}"
    return ""


def _functions(kernel: str) -> tuple[Callable[[Step], torch.Tensor], Callable[[Step, torch.Tensor], torch.Tensor]]:
    module = importlib.import_module(_MODULES[Backend(kernel)])
    return getattr(module, f"{kernel}_sums"), getattr(module, f"{kernel}_gradient")


def _step(tensors: Sequence[torch.Tensor | None], regions: Sequence[int] | None, activation: str, form: str, *numbers: Any) -> Step:
    logits, label, mask, rater_weights, class_weight = tensors
    assert logits is not None
    assert label is not None
    recipe = _recipe(activation, form, None if regions is None else tuple(regions), *numbers)
    return Step(logits, label, recipe, mask, rater_weights, class_weight)


@torch.library.custom_op("monai_jdt::voxel_sums", mutates_args=())
def _voxel_sums(
    logits: torch.Tensor,
    label: torch.Tensor,
    mask: torch.Tensor | None,
    rater_weights: torch.Tensor | None,
    class_weight: torch.Tensor | None,
    kernel: str,
    activation: str,
    form: str,
    regions: Sequence[int] | None,
    ignore_index: int | None,
    smoothing: float,
    include_background: bool,
    norm: int,
    threshold: float,
    pixel: str | None,
    focal_gamma: float,
    focal_alpha: float | None,
) -> torch.Tensor:
    tensors = (logits, label, mask, rater_weights, class_weight)
    numbers = (ignore_index, smoothing, include_background, norm, threshold, pixel, focal_gamma, focal_alpha)
    return _functions(kernel)[0](_step(tensors, regions, activation, form, *numbers))


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
    activation: str,
    form: str,
    regions: Sequence[int] | None,
    ignore_index: int | None,
    smoothing: float,
    include_background: bool,
    norm: int,
    threshold: float,
    pixel: str | None,
    focal_gamma: float,
    focal_alpha: float | None,
) -> torch.Tensor:
    tensors = (logits, label, mask, rater_weights, class_weight)
    numbers = (ignore_index, smoothing, include_background, norm, threshold, pixel, focal_gamma, focal_alpha)
    return _functions(kernel)[1](_step(tensors, regions, activation, form, *numbers), upstream)


@_voxel_sums_gradient.register_fake
def _voxel_sums_gradient_shape(upstream: torch.Tensor, logits: torch.Tensor, *others: Any) -> torch.Tensor:
    return torch.empty_like(logits)


def _save(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    ctx.save_for_backward(*inputs[:5])
    ctx.settings = inputs[5:]


def _backward(ctx: Any, upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    logits_gradient = _voxel_sums_gradient(upstream[:GRADED].contiguous(), *ctx.saved_tensors, *ctx.settings)
    return (logits_gradient, *[None] * (4 + len(ctx.settings)))


_voxel_sums.register_autograd(_backward, setup_context=_save)

_ONLY_EAGER = "the fast kernels have no {what}. Fix: construct the loss with backend='eager', which has"


def _no_second_derivative(ctx: Any, *upstream: torch.Tensor) -> NoReturn:
    raise RuntimeError(_ONLY_EAGER.format(what="second derivative"))


_voxel_sums_gradient.register_autograd(_no_second_derivative)


def _no_vmap(info: Any, in_dims: Any, *arguments: Any) -> NoReturn:
    raise RuntimeError(_ONLY_EAGER.format(what="vmap"))


_voxel_sums.register_vmap(_no_vmap)
_voxel_sums_gradient.register_vmap(_no_vmap)
