"""Make votes whole numbers of an integer dtype again after resampling."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data.meta_tensor import MetaTensor
from monai.transforms.transform import MapTransform, Transform
from monai.utils import convert_to_tensor

from monai_jdt.data.files.label_values import LARGEST_LABEL, WHOLE_TOLERANCE
from monai_jdt.transforms.with_meta import with_meta_of
from monai_jdt.validation import error_sentence


class RestoreVotes(Transform):
    """Make votes whole numbers of an integer dtype again after a spatial transform, which gives floats even with nearest neighbour.

    Label values must never be mixed: halfway between 1 and 4 lies no 2. So values further from a whole number than
    :data:`monai_jdt.data.WHOLE_TOLERANCE`, which is room for a header's scale factor, are an error.

    Example:
        >>> RestoreVotes()(torch.tensor([[0.0, 1.0, 4.0]]))
        metatensor([[0, 1, 4]], dtype=torch.uint8)
    """

    def __call__(self, votes: torch.Tensor) -> MetaTensor:
        """Restore.

        Args:
            votes: `(R, *S)`, whole numbers of any real dtype, within int16.

        Returns:
            The votes, uint8 where every value fits, else int16, with the affine, meta and operations they had.

        Raises:
            ValueError: for values that are not whole numbers within int16.
        """
        plain = convert_to_tensor(votes, track_meta=False)
        if plain.is_floating_point():
            nearest = plain.round()
            whole = (plain - nearest).abs() <= WHOLE_TOLERANCE  # False for NaN
            if not whole.all():
                fix = "pass mode='nearest' for the votes to every spatial transform"
                raise ValueError(error_sentence("votes", "whole label values", f"{plain[~whole][0].item():.6g}", fix))
            plain = nearest
        if plain.is_floating_point() or plain.element_size() > 2:  # a narrower dtype has no such values, and compares wrongly
            wide = (plain > LARGEST_LABEL) | (plain < -LARGEST_LABEL)
            if wide.any():
                got = int(plain[wide][0])
                raise ValueError(error_sentence("votes", "whole label values within int16", str(got), "number the labels anew"))
        small = plain.numel() == 0 or (int(plain.min()) >= 0 and int(plain.max()) <= 255)
        return with_meta_of(votes, plain.to(torch.uint8 if small else torch.int16))


class RestoreVotesd(MapTransform):
    """Dictionary version of :class:`RestoreVotes`.

    Args:
        keys: keys of the rater stacks.
        allow_missing_keys: skip a key that the item does not have.

    Raises:
        ValueError: when called, as :class:`RestoreVotes`.
    """

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.restorer = RestoreVotes()

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Restore each key's stack. The item passed in is not changed."""
        d = dict(data)
        for key in self.key_iterator(d):
            try:
                d[key] = self.restorer(d[key])
            except ValueError as error:
                raise ValueError(f"{key!r}: {error}") from error
        return d
