"""Which voxels a chunk holds, and what is read of them: logits, prediction, label, and whether they count."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch

from monai_jdt.definitions import Activation, LabelForm, PixelTerm
from monai_jdt.kernels.chunked.labels import read_chunk_label
from monai_jdt.kernels.chunked.scratch import ChunkView, Scratch
from monai_jdt.kernels.eager import Sure, distance
from monai_jdt.kernels.kernel_input import KernelInput

#: Most logits in a chunk: the few temporaries that an operation touches, 1 MB each in float32, stay in the cores' caches.
_LARGEST = 2**18
#: Fewest logits in a chunk. Below it, the time goes into calling operations. Temporaries of so many logits are a few MB.
_SMALLEST = 2**17
#: Largest size of a chunk's temporaries, as a share of all logits. The promise to users is "no temporary as large as the logits".
_TEMPORARY = 0.09
#: Number of slices of a large part of an image, and the fewest voxels in a slice. 1, 2, 4 and 8 threads divide 8.
_SLICES, _SMALLEST_SLICE = 8, 128


class VoxelChunk(NamedTuple):
    """Some voxels of some images, each value `(n, C, v)` in the sums' dtype, 0 where it does not count."""

    logits: torch.Tensor
    p: torch.Tensor
    #: with softmax: logits less their largest, if asked for, and `(n, 1, v)` the sum of the exponentials of that
    shifted: torch.Tensor | None
    total: torch.Tensor | None
    #: before and after label smoothing
    raw: torch.Tensor
    t: torch.Tensor
    #: bool, `(n, 1 or C, v)`, and as bits; None: all
    counted: torch.Tensor | None
    kept: torch.Tensor | None
    #: `(1, C, 1)`
    class_weight: torch.Tensor | None
    #: what is left of predictions near 1, where the gradient needs these digits
    sure: Sure | None = None

    def far(self, out: torch.Tensor) -> torch.Tensor:
        """Return `p - t`.

        Args:
            out: where to write it, if p has enough digits.
        """
        return torch.sub(self.p, self.t, out=out) if self.sure is None else distance(self.p, self.t, self.sure)


def chunk_views(given: KernelInput) -> Iterator[list[ChunkView]]:
    """Yield chunks of the same images and of as many voxels: several whole images, or parts of one. No voxels, no chunks.

    Args:
        given: whose logits are cut. Label and mask say how many temporaries a chunk has, and so how large it may be.
    """
    n, channels, voxels = given.logits.shape
    allowed = _TEMPORARY * given.logits.numel() * given.logits.element_size() / (given.dtype.itemsize * _temporaries(given))
    size = int(min(max(allowed, _SMALLEST), _LARGEST))
    images_at_once = max(size // max(channels * voxels, 1), 1)
    voxels_at_once = min(max(size // channels, 1), voxels)
    slices = _SLICES if images_at_once == 1 and voxels_at_once >= _SLICES * _SMALLEST_SLICE else 1
    voxels_at_once -= voxels_at_once % slices
    for first in range(0, n if voxels else 0, images_at_once):
        images = slice(first, min(first + images_at_once, n))
        whole = voxels - voxels % slices
        yield [ChunkView(images, slice(start, min(start + voxels_at_once, whole)), slices) for start in range(0, whole, voxels_at_once)]
        if whole < voxels:
            yield [ChunkView(images, slice(whole, voxels), 1)]


def _temporaries(given: KernelInput) -> float:
    """So many times the logits of a chunk its temporaries are, or a little less."""
    label, rule, channels = given.recipe.label, given.recipe.pixel, given.logits.shape[1]
    indices, votes = label.form is LabelForm.INDEX, label.form is LabelForm.VOTES
    # with softmax "first", "second", "p", "shifted", and three sums over channels; with sigmoid those of the binary cross-entropy
    number = 4 + 3 / channels if given.recipe.activation is Activation.SOFTMAX else 6.0
    # logits and labels that are not of the sums' dtype
    number += given.logits.dtype != given.dtype
    number += indices or votes or given.label.dtype != given.dtype
    # another rater's channels ("label_other"), four names of one channel ("label_value", ...), and those of `read_label`, which reads
    # float64 labels that float32 cannot tell apart
    number += votes + 4 / channels * (indices or votes)
    number += (6 + 8 / channels) * ((indices or votes) and given.label.dtype is torch.float64 is not given.dtype)
    number += label.smoothing > 0
    # the bits of what counts, and logits, label and prediction with zeros elsewhere
    nobody = given.rater_weights is not None and not bool((given.rater_weights > 0).any(1).all())
    number += 3 * (given.mask is not None or label.ignore_index is not None or nobody)
    # of the focal or the divergence term, or of a class weight
    number += 4 * (rule is not None and (rule.term is not PixelTerm.CROSS_ENTROPY or given.class_weight is not None))
    return number


def read_chunk(given: KernelInput, view: ChunkView, scratch: Scratch, entropy: bool) -> VoxelChunk:
    """Read a chunk, and make its predictions.

    Args:
        given: logits, label, mask, and how they are read.
        view: the chunk's place.
        scratch: where the values are written, over those of the chunk before it.
        entropy: whether the pixel term's own value will be asked for, so that softmax keeps more than p.
    """
    recipe = given.recipe
    logits = view.of(given.logits)
    if logits.dtype != given.dtype:
        logits = scratch.take("logits", logits.shape).copy_(logits)
    weights = None if given.rater_weights is None else given.rater_weights[view.images]
    raw, counted = read_chunk_label(view.of(given.label), logits.shape[1], recipe, weights, scratch)
    if given.mask is not None:
        mask = view.of(given.mask)
        counted = mask if counted is None else counted & mask
    kept = None
    if counted is not None:
        # zeros before the activation: a NaN or an infinite logit that does not count would otherwise reach the sum over channels
        kept = scratch.bits(counted)
        logits, raw = scratch.keep("logits", logits, kept), scratch.keep("label", raw, kept)
    t = raw
    if recipe.label.smoothing > 0:
        e = recipe.label.smoothing
        t = torch.mul(raw, 1 - e, out=scratch.take("t", raw.shape))
        t += e / (logits.shape[1] if recipe.activation is Activation.SOFTMAX else 2)
        if kept is not None:
            t = scratch.keep("t", t, kept)
    shifted = total = None
    if recipe.activation is Activation.SOFTMAX:
        # "total" holds the largest logit first, and the sum of exponentials once that is no longer needed
        largest = torch.amax(logits, 1, keepdim=True, out=scratch.take("total", logits[:, :1].shape))
        shifted = torch.sub(logits, largest, out=scratch.take("shifted", logits.shape))
        p = torch.exp(shifted, out=scratch.take("p", logits.shape) if entropy else shifted)
        total = scratch.over_channels("total", p)
        p /= total
        shifted = shifted if entropy else None
    elif recipe.activation is Activation.SIGMOID:
        p = torch.sigmoid(logits, out=scratch.take("p", logits.shape))
    else:
        p = logits
    if kept is not None:
        p = scratch.keep("p", p, kept)
    class_weight = None if given.class_weight is None else given.class_weight.reshape(1, -1, 1)
    return VoxelChunk(logits, p, shifted, total, raw, t, counted, kept, class_weight)
