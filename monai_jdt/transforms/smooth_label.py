"""Make a label softer: everywhere, near borders, or by a Gaussian."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data.meta_tensor import MetaTensor
from monai.networks.layers import GaussianFilter
from monai.transforms.transform import MapTransform, Transform
from monai.utils import convert_to_tensor

from monai_jdt.transforms.with_meta import with_meta_of
from monai_jdt.validation import error_sentence

_SMOOTHINGS = ("uniform", "boundary", "gaussian")


class SmoothLabel(Transform):
    """Make a label softer, in 1 to 3 space dimensions.

    With e = `epsilon` and C channels, a voxel's label t becomes `(1 - e) t + e / C` (`softmax=True`, as the losses'
    `label_smoothing`) or, for channels that are regions, `(1 - e) t + e / 2`:

    * `"uniform"`: at every voxel;
    * `"boundary"`: only at voxels within k of a border, in the square or cube of side 2k + 1 around them: with `softmax=True` at
      voxels where another class is the largest somewhere in that window, otherwise in each channel where t > .5 changes there
      (k = 3, e = .5 in the published configuration of arXiv:2303.16296). The edge of the image is not a border;
    * `"gaussian"`: each channel is blurred with a Gaussian of `sigma`, the weights at a voxel normalised over the image, so that
      nothing comes in from outside: channels that sum to 1 still do. `sigma` is in voxels, not in mm.

    Args:
        mode: one of the above.
        epsilon: e in [0, 1]; not used by `"gaussian"`.
        k: half width of the window in voxels, at least 1; for `"boundary"` only.
        sigma: of the Gaussian in voxels, positive; for `"gaussian"` only.
        softmax: whether the channels are classes that sum to 1, or regions each by itself.

    Raises:
        ValueError: if an argument is out of its range.

    Example:
        >>> SmoothLabel("uniform", epsilon=0.2)(torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
        metatensor([[0.1000, 0.9000],
                [0.9000, 0.1000]])
        >>> SmoothLabel("boundary", epsilon=0.5, k=1, softmax=False)(torch.tensor([[0.0, 0.0, 0.0, 1.0, 1.0, 1.0]]))
        metatensor([[0.0000, 0.0000, 0.2500, 0.7500, 1.0000, 1.0000]])
    """

    def __init__(self, mode: str = "uniform", epsilon: float = 0.1, k: int = 3, sigma: float = 1.0, softmax: bool = True) -> None:
        if mode not in _SMOOTHINGS:
            raise ValueError(error_sentence("mode", f"one of {_SMOOTHINGS}", repr(mode)))
        if not 0 <= epsilon <= 1:
            raise ValueError(error_sentence("epsilon", "a number in [0, 1]", repr(epsilon)))
        if isinstance(k, bool) or not isinstance(k, int) or k < 1:
            raise ValueError(error_sentence("k", "a whole number of voxels, at least 1", repr(k)))
        if not 0 < sigma < float("inf"):
            raise ValueError(error_sentence("sigma", "a positive number of voxels", repr(sigma)))
        self.mode = mode
        self.epsilon = epsilon
        self.k = k
        self.sigma = sigma
        self.softmax = softmax

    def __call__(self, label: torch.Tensor) -> MetaTensor:
        """Smooth.

        Args:
            label: `(C, *S)` in [0, 1], any real dtype.

        Returns:
            `(C, *S)` in [0, 1], float32 (float64 for float64), with the affine and meta of the label.

        Raises:
            ValueError: for other than 1 to 3 space dimensions, or `softmax` with one channel.
        """
        plain = convert_to_tensor(label, track_meta=False)
        if not 2 <= plain.ndim <= 4:
            raise ValueError(error_sentence("label", "(C, *S) with 1 to 3 space dimensions", f"shape {tuple(plain.shape)}"))
        if self.softmax and len(plain) == 1:
            fix = "pass softmax=False, or one-hot channels"
            raise ValueError(error_sentence("label", "at least 2 channels with softmax=True", "1", fix))
        plain = plain if plain.dtype == torch.float64 else plain.to(torch.float32)
        if self.mode == "gaussian":
            return with_meta_of(label, self._blurred(plain))
        smooth = torch.lerp(plain, torch.full_like(plain, 1 / len(plain) if self.softmax else 0.5), self.epsilon)
        if self.mode == "boundary":
            smooth = torch.where(self._near_a_border(plain), smooth, plain)
        return with_meta_of(label, smooth)

    def _blurred(self, label: torch.Tensor) -> torch.Tensor:
        with label.device:  # MONAI's filter makes its kernel on the default device
            blur = GaussianFilter(label.ndim - 1, self.sigma).to(label)
        inside = blur(torch.ones_like(label[None, :1]))
        return (blur(label[None]) / inside)[0].clamp(0, 1)

    def _near_a_border(self, label: torch.Tensor) -> torch.Tensor:
        """Return whether the window around a voxel holds both sides of a border: bool `(C, *S)`, or `(1, *S)` for classes."""
        if self.softmax:
            winner = label.argmax(0, keepdim=True)
            return _largest_around(winner.to(label.dtype), self.k) != -_largest_around(-winner.to(label.dtype), self.k)
        inside = (label > 0.5).to(label.dtype)
        return _largest_around(inside, self.k) != -_largest_around(-inside, self.k)


def _largest_around(values: torch.Tensor, k: int) -> torch.Tensor:
    """Return the maximum over the window of side 2k + 1, one axis after the other. Voxels outside the image do not count."""
    for axis in range(1, values.ndim):
        rows = values.movedim(axis, -1)
        flat = rows.reshape(1, -1, rows.shape[-1])
        pooled = torch.nn.functional.max_pool1d(flat, 2 * k + 1, stride=1, padding=k)
        values = pooled.reshape(rows.shape).movedim(-1, axis)
    return values


class SmoothLabeld(MapTransform):
    """Dictionary version of :class:`SmoothLabel`.

    Args:
        keys: keys of the labels.
        mode: see :class:`SmoothLabel`.
        epsilon: see :class:`SmoothLabel`.
        k: see :class:`SmoothLabel`.
        sigma: see :class:`SmoothLabel`.
        softmax: see :class:`SmoothLabel`.
        allow_missing_keys: skip a key that the item does not have.

    Raises:
        ValueError: as :class:`SmoothLabel`.
    """

    def __init__(
        self,
        keys: KeysCollection,
        mode: str = "uniform",
        epsilon: float = 0.1,
        k: int = 3,
        sigma: float = 1.0,
        softmax: bool = True,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.smoother = SmoothLabel(mode, epsilon, k, sigma, softmax)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Smooth each key's label. The item passed in is not changed."""
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.smoother(d[key])
        return d
