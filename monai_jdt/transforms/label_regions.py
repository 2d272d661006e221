"""Turn one label map into a channel for each region."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data.meta_tensor import MetaTensor
from monai.transforms.transform import MapTransform, Transform

from monai_jdt.raters.average import fuse_average
from monai_jdt.raters.region_names import RegionSpec, named_regions
from monai_jdt.transforms.restore_votes import RestoreVotes
from monai_jdt.transforms.with_meta import with_meta_of
from monai_jdt.validation import error_sentence


class LabelRegions(Transform):
    """Turn one label map into one channel for each region, by a data set's convention.

    Args:
        regions: `"brats2018"`, `"brats2021"`, `"brats2023"`, `"brats2024"`, `"msd"` (see
            :data:`monai_jdt.data.REGION_CONVENTIONS`), or any spelling of :func:`monai_jdt.raters.named_regions`.

    Example:
        >>> LabelRegions("brats2023")(torch.tensor([[0, 1, 2, 3]]))  # TC, WT, ET
        metatensor([[0., 1., 0., 1.],
                [0., 1., 1., 1.],
                [0., 0., 0., 1.]])
    """

    def __init__(self, regions: RegionSpec) -> None:
        self.regions = named_regions(regions)

    def __call__(self, label: torch.Tensor) -> MetaTensor:
        """Make the channels.

        Args:
            label: an index map `(1, *S)` of whole numbers of any real dtype.

        Returns:
            `(C, *S)`, float32, 0 or 1, with the affine and meta of the label.

        Raises:
            ValueError: for other than one channel, or values that are not whole numbers within int16.
        """
        if len(label.shape) < 1 or label.shape[0] != 1:
            got = f"shape {tuple(label.shape)}"
            raise ValueError(error_sentence("label", "an index map (1, *S)", got, "use FuseRaters for a stack of raters"))
        whole = RestoreVotes()(label).as_tensor()
        return with_meta_of(label, fuse_average(whole, tuple(self.regions.values())))


class LabelRegionsd(MapTransform):
    """Dictionary version of :class:`LabelRegions`.

    Args:
        keys: keys of the label maps.
        regions: see :class:`LabelRegions`.
        allow_missing_keys: skip a key that the item does not have.

    Raises:
        ValueError: as :class:`LabelRegions`.
    """

    def __init__(self, keys: KeysCollection, regions: RegionSpec, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.converter = LabelRegions(regions)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Make the channels of each key's label. The item passed in is not changed."""
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.converter(d[key])
        return d
