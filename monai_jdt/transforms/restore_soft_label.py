"""Make a soft label valid again after resampling."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data.meta_tensor import MetaTensor
from monai.transforms.transform import MapTransform, Transform
from monai.utils import convert_to_tensor, ensure_tuple_rep

from monai_jdt.transforms.with_meta import with_meta_of
from monai_jdt.validation import error_sentence


class RestoreSoftLabel(Transform):
    """Make a soft label valid again after resampling, which overshoots, rounds, and pads with 0.

    Values are clamped to [0, 1], and NaN becomes 0. With `softmax=True` the channels sum to 1 again: what is missing is given to
    the background; where the sum is above 1, all channels are divided by it. In order:

        t <- clamp(t, 0, 1);   m = 1 - sum_c t_c;   m > 0: t_background += m;   m < 0: t /= sum_c t_c

    Args:
        softmax: whether the channels are classes that sum to 1; False for regions, which are clamped only.
        background: the channel that takes the missing mass.

    Example:
        >>> RestoreSoftLabel()(torch.tensor([[0.7, 0.0, 0.9], [0.3, 0.0, 0.3], [-0.1, 0.0, 0.0]]))
        metatensor([[0.7000, 1.0000, 0.7500],
                [0.3000, 0.0000, 0.2500],
                [0.0000, 0.0000, 0.0000]])
    """

    def __init__(self, softmax: bool = True, background: int = 0) -> None:
        self.softmax = softmax
        self.background = background

    def __call__(self, label: torch.Tensor) -> MetaTensor:
        """Restore.

        Args:
            label: `(C, *S)`, any real dtype.

        Returns:
            `(C, *S)`, float32 (float64 for float64), in [0, 1], with the affine, meta and operations of the label.

        Raises:
            ValueError: with `softmax`, for one channel, or a background that is no channel.
        """
        plain = convert_to_tensor(label, track_meta=False)
        plain = plain if plain.dtype == torch.float64 else plain.to(torch.float32)
        values = torch.nan_to_num(plain, nan=0.0).clamp(0, 1)
        if self.softmax:
            self._check(values)
            missing = 1 - values.sum(0)
            values[self.background] += missing.clamp(min=0)
            values = torch.where(missing < 0, values / values.sum(0), values).clamp_(0, 1)
        return with_meta_of(label, values)

    def mass(self, label: torch.Tensor) -> torch.Tensor:
        """Return how much of a voxel is from inside the image: the sum of its channels, `(1, *S)`.

        For a label of classes only; 1 inside, 0 in the padding, in between at the edge.
        """
        plain = convert_to_tensor(label, track_meta=False)
        self._check(plain)
        return torch.nan_to_num(plain.to(torch.promote_types(plain.dtype, torch.float32)), nan=0.0).clamp(0, 1).sum(0, keepdim=True)

    def _check(self, label: torch.Tensor) -> None:
        if label.ndim < 1 or len(label) < 2:
            fix = "pass softmax=False for regions, or one-hot channels"
            raise ValueError(error_sentence("label", "at least 2 channels with softmax=True", f"shape {tuple(label.shape)}", fix))
        if not -len(label) <= self.background < len(label):
            raise ValueError(error_sentence("background", f"one of {len(label)} channels", str(self.background)))


class RestoreSoftLabeld(MapTransform):
    """Dictionary version of :class:`RestoreSoftLabel`, to stand after the spatial transforms.

    Args:
        keys: keys of the labels.
        softmax: see :class:`RestoreSoftLabel`.
        background: see :class:`RestoreSoftLabel`.
        mask_keys: where masks go, one for each key: bool `(1, *S)`, as the losses' `mask`, False where more than half of the
            voxel's mass is from outside the image. Needs `softmax`, and labels that summed to 1 before, padded with zeros. None: no
            masks.
        allow_missing_keys: skip a key that the item does not have.

    Raises:
        ValueError: as :class:`RestoreSoftLabel`, and for `mask_keys` without `softmax`.

    Example:
        >>> restore = RestoreSoftLabeld("label", mask_keys="mask")
        >>> restore({"label": torch.tensor([[0.5, 0.0], [0.5, 0.1]])})["mask"]
        metatensor([[ True, False]])
    """

    def __init__(
        self,
        keys: KeysCollection,
        softmax: bool = True,
        background: int = 0,
        mask_keys: KeysCollection | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if mask_keys is not None and not softmax:
            expected = "None with softmax=False, since regions do not say what is missing"
            raise ValueError(error_sentence("mask_keys", expected, repr(mask_keys)))
        self.mask_keys = (None,) * len(self.keys) if mask_keys is None else ensure_tuple_rep(mask_keys, len(self.keys))
        self.restorer = RestoreSoftLabel(softmax, background)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Restore each key's label. The item passed in is not changed."""
        d = dict(data)
        for key, mask_key in self.key_iterator(d, self.mask_keys):
            label = d[key]
            d[key] = self.restorer(label)
            if mask_key is not None:
                d[mask_key] = with_meta_of(label, self.restorer.mass(label) >= 0.5)
        return d
