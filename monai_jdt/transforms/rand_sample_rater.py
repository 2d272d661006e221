"""Draw one rater of a stack, another one at each call."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data.meta_tensor import MetaTensor
from monai.transforms.transform import MapTransform, Randomizable, Transform
from monai.utils import convert_to_tensor

from monai_jdt.raters.votes import rater_shares
from monai_jdt.transforms.same_raters import check_same_raters
from monai_jdt.transforms.with_meta import with_meta_of
from monai_jdt.validation import error_sentence


class RandSampleRater(Randomizable, Transform):
    """Draw one rater of the stack at each call, to train on single opinions instead of their average.

    Args:
        rater_weights: probabilities of the raters up to a factor; 0 = never. None: all alike.

    Example:
        >>> sample = RandSampleRater().set_random_state(seed=0)
        >>> sample(torch.tensor([[0, 1, 1], [0, 0, 1]])).shape
        torch.Size([1, 3])
    """

    def __init__(self, rater_weights: Sequence[float] | None = None) -> None:
        self.rater_weights = None if rater_weights is None else tuple(float(w) for w in rater_weights)
        self.rater = 0

    def randomize(self, data: Any, rater_weights: Any = None) -> None:
        """Draw `self.rater`, one number of the random state.

        Args:
            data: the stack `(R, *S)`; only R is looked at.
            rater_weights: `(R,)`; None: those of the constructor.

        Raises:
            ValueError: for a stack without raters, or weights that are not R numbers >= 0, one of them > 0.
        """
        if data.ndim < 1 or data.shape[0] == 0:
            raise ValueError(error_sentence("votes", "a stack (R, *S) of at least one rater", f"shape {tuple(data.shape)}"))
        shares = rater_shares(self.rater_weights if rater_weights is None else rater_weights, data.shape[0])
        ends = shares[: int(shares.nonzero()[-1]) + 1].cumsum(0).numpy()
        self.rater = min(int(np.searchsorted(ends, self.R.random(), side="right")), len(ends) - 1)

    def __call__(self, votes: torch.Tensor, rater_weights: Any = None, randomize: bool = True) -> MetaTensor:
        """Draw a rater and take it.

        Args:
            votes: label values `(R, *S)`.
            rater_weights: `(R,)`, 0 = missing; None: those of the constructor.
            randomize: False: the rater drawn last.

        Returns:
            An index label `(1, *S)` of the same dtype, with the affine and meta of the votes.
        """
        if randomize:
            self.randomize(votes, rater_weights)
        stack = convert_to_tensor(votes, track_meta=False)
        return with_meta_of(votes, stack[self.rater : self.rater + 1])


class RandSampleRaterd(Randomizable, MapTransform):
    """Dictionary version of :class:`RandSampleRater`: one draw for all keys, which must hold the same raters in the same order.

    Args:
        keys: keys of the rater stacks.
        rater_weights: see :class:`RandSampleRater`.
        weights_key: key of the item's own rater weights `(R,)`; None: `rater_weights`.
        allow_missing_keys: skip a key that the item does not have.

    Raises:
        ValueError: when called, as :class:`RandSampleRater`, and if the stacks have different numbers of raters.
    """

    def __init__(
        self,
        keys: KeysCollection,
        rater_weights: Sequence[float] | None = None,
        weights_key: Hashable | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.weights_key = weights_key
        self.sampler = RandSampleRater(rater_weights)

    def set_random_state(self, seed: int | None = None, state: np.random.RandomState | None = None) -> RandSampleRaterd:
        """Seed this transform and its sampler, as MONAI's `Randomizable` does."""
        super().set_random_state(seed, state)
        self.sampler.set_random_state(seed, state)
        return self

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Draw one rater and take it under each key. The item passed in is not changed."""
        d = dict(data)
        keys = list(self.key_iterator(d))
        check_same_raters(d, keys)
        weights = None if self.weights_key is None else d[self.weights_key]
        for number, key in enumerate(keys):
            d[key] = self.sampler(d[key], weights, randomize=number == 0)
        return d
