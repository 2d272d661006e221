"""Give the stacks of all cases the same number of raters."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data.meta_tensor import MetaTensor
from monai.transforms.transform import MapTransform, Transform
from monai.utils import convert_to_tensor

from monai_jdt.transforms.same_raters import check_same_raters
from monai_jdt.transforms.with_meta import with_meta_of
from monai_jdt.validation import error_sentence

#: The key under which rater weights go, unless another is asked for.
RATER_WEIGHTS = "rater_weights"


class PadRaters(Transform):
    """Pad a stack to a fixed number of raters, for batches of cases with different numbers. An added rater has weight 0.

    Args:
        raters: R of the result, at least 1.
        value: the label value of the added raters. Losses check it like any value: use one that occurs in the data.

    Raises:
        ValueError: for raters < 1; when called: for more raters than that.

    Example:
        >>> votes, weights = PadRaters(3)(torch.tensor([[0, 1], [1, 1]]))
        >>> votes.shape, weights
        (torch.Size([3, 2]), tensor([1., 1., 0.]))
    """

    def __init__(self, raters: int, value: int = 0) -> None:
        if raters < 1:
            raise ValueError(error_sentence("raters", "at least 1", repr(raters)))
        self.raters = raters
        self.value = value

    def __call__(self, votes: torch.Tensor, rater_weights: Any = None) -> tuple[MetaTensor, torch.Tensor]:
        """Pad.

        Args:
            votes: label values `(r, *S)`, r <= R; r = 0 is a case without raters.
            rater_weights: `(r,)` of the raters that are there; None: 1 each.

        Returns:
            Votes `(R, *S)` of the same dtype, and weights `(R,)`, float32.
        """
        stack = convert_to_tensor(votes, track_meta=False)
        count = len(stack)
        if count > self.raters:
            raise ValueError(error_sentence("votes", f"at most {self.raters} raters", str(count), "pass a larger `raters`"))
        place = rater_weights.device if isinstance(rater_weights, torch.Tensor) else "cpu"
        given = torch.as_tensor([1.0] * count if rater_weights is None else rater_weights, dtype=torch.float32, device=place)
        if given.shape != (count,):
            expected = f"one weight for each of {count} raters"
            raise ValueError(error_sentence("rater_weights", expected, f"shape {tuple(given.shape)}"))
        weights = torch.cat([given, given.new_zeros(self.raters - count)])
        filling = stack.new_full((self.raters - count, *stack.shape[1:]), self.value)
        return with_meta_of(votes, torch.cat([stack, filling])), weights


class PadRatersd(MapTransform):
    """Dictionary version of :class:`PadRaters`. The keys hold stacks of the same raters and share one vector of weights.

    Args:
        keys: keys of the rater stacks.
        raters: see :class:`PadRaters`.
        value: see :class:`PadRaters`.
        weights_key: where the weights `(R,)` go; if the item has some there already, one for each rater, they are padded with 0.
        allow_missing_keys: skip a key that the item does not have.

    Raises:
        ValueError: as :class:`PadRaters`, and when called if the stacks have different numbers of raters.
    """

    def __init__(
        self,
        keys: KeysCollection,
        raters: int,
        value: int = 0,
        weights_key: Hashable = RATER_WEIGHTS,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.weights_key = weights_key
        self.padder = PadRaters(raters, value)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Pad each key's stack and write the weights. The item passed in is not changed."""
        d = dict(data)
        keys = list(self.key_iterator(d))
        check_same_raters(d, keys)
        given = d.get(self.weights_key)
        for key in keys:
            d[key], d[self.weights_key] = self.padder(d[key], given)
        return d
