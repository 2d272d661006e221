"""Binary samples drawn from a probability map: voxel by voxel, or all voxels by one number."""

from __future__ import annotations

from enum import Enum

import torch

from monai_jdt.checks import can_read_values
from monai_jdt.functional.metric_labels import check_unit_range
from monai_jdt.plain_tensors import plain_tensor
from monai_jdt.validation import check_bool, check_choice, check_int, error_sentence


class VoxelCoupling(Enum):
    """How the voxels of one sample hang together: not at all, or by one number that all voxels share."""

    INDEPENDENT = "independent"
    SHARED = "shared"


def draw_samples(
    prob: torch.Tensor,
    samples: int,
    *,
    softmax: bool = False,
    coupling: str | VoxelCoupling = "independent",
    seed: int | None = 0,
) -> torch.Tensor:
    r"""Draw binary samples whose mean over many samples is the probability map.

    Sample m marks channel c at voxel v if :math:`u_{mv} < p_{cv}`. With `softmax` it takes the class in whose interval of the
    cumulated probabilities :math:`u_{mv}` lies. The channels share u, so that regions whose probabilities are nested stay nested.

    * `"independent"`: each voxel has its own uniform u. Every sample is speckled where the map is unsure. Raters are not: they draw one
      connected outline. So the samples have the raters' mean, but not their joint distribution, and the energy distance of a perfect
      map is not 0.
    * `"shared"`: all voxels have :math:`u_m = (m + 1/2) / M`. The samples are level sets of the map, from its core to its outermost
      rim, with `softmax` of the probability of the background. No number is drawn. They fit raters who differ in how far out they draw,
      not raters who mark different places.

    Args:
        prob: p, `(N, C, *S)`, floating point, in [0, 1].
        samples: M >= 1.
        softmax: whether the channels exclude each other, with the background first.
        coupling: "independent" or "shared".
        seed: of the draws. Each image is drawn by a generator of its own that starts there. So an image's samples depend neither on
            the batch nor on the images before, and the first samples are the same for every M. None: torch's global generator.

    Returns:
        `(N, M, C, *S)`, bool; one-hot with `softmax`.

    Raises:
        TypeError: no tensor, or no floating point.
        ValueError: values outside [0, 1], `samples` < 1, one channel with `softmax`, or an unknown coupling.

    Example:
        >>> p = torch.tensor([[[0.0, 0.3, 0.7, 1.0]]])
        >>> draw_samples(p, 2, coupling="shared").int().tolist()  # p > 1/4 and p > 3/4
        [[[[0, 1, 1, 1]], [[0, 0, 0, 1]]]]
    """
    coupling = check_choice("coupling", coupling, VoxelCoupling)
    prob = _checked_prob(prob, check_bool("softmax", softmax))
    if check_int("samples", samples) < 1:
        raise ValueError(error_sentence("samples", "a whole number >= 1", str(samples)))
    marked = torch.empty(prob.shape[0], samples, *prob.shape[1:], dtype=torch.bool, device=prob.device)
    for image, p in enumerate(prob):
        generator = None if seed is None else torch.Generator(prob.device).manual_seed(seed)
        upper = p.cumsum(0)[:-1] if softmax else p
        for sample in range(samples):
            if coupling is VoxelCoupling.SHARED:
                u = torch.full((), (sample + 0.5) / samples, dtype=p.dtype, device=p.device)
            else:
                u = torch.rand(p.shape[1:], generator=generator, dtype=p.dtype, device=p.device)
            if softmax:
                chosen = (u >= upper).sum(0, keepdim=True)
                marked[image, sample] = chosen == torch.arange(len(p), device=p.device).reshape(-1, *(1,) * (p.ndim - 1))
            else:
                marked[image, sample] = u < upper
    return marked


def _checked_prob(prob: torch.Tensor, softmax: bool) -> torch.Tensor:
    prob = plain_tensor("prob", prob).detach()
    if not prob.is_floating_point():
        raise TypeError(error_sentence("prob", "floating point probabilities", str(prob.dtype), "apply sigmoid or softmax to logits"))
    if prob.ndim < 2:
        raise ValueError(error_sentence("prob", "shape (N, C, *S)", str(tuple(prob.shape)), "add the dimensions that are missing"))
    if softmax and prob.shape[1] == 1:
        raise ValueError(error_sentence("softmax", "False for one channel", "True", "leave it out"))
    if can_read_values(prob):
        check_unit_range("prob", prob, "apply sigmoid or softmax to logits")
    # uniform numbers of 16 bits would be too coarse: a float16 has 1,024 of them between 1/2 and 1
    return prob if prob.dtype is torch.float64 else prob.to(torch.float32)
