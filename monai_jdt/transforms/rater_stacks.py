"""Transforms of stacks of raters: draw one, give all cases of a batch the same number, and keep resampling from mixing values."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data.meta_tensor import MetaTensor
from monai.data.utils import list_data_collate
from monai.transforms.transform import MapTransform, Randomizable, Transform
from monai.utils import convert_to_tensor

from monai_jdt.raters.fusion import checked_rater_weights
from monai_jdt.transforms.raters import RATER_FIELDS, with_meta_of
from monai_jdt.validation import error_sentence

#: The key under which rater weights go, unless another is asked for.
RATER_WEIGHTS = "rater_weights"


class RandSampleRater(Randomizable, Transform):
    """One rater of the stack, another at every call: training on single opinions instead of their average.

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
            raise ValueError(f"expected votes (R, *S) of at least one rater, got shape {tuple(data.shape)}")
        shares = checked_rater_weights(self.rater_weights if rater_weights is None else rater_weights, data.shape[0])
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
        allow_missing_keys: leave out a key that the item does not have.

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
        """As every randomizable transform's: the state is the sampler's too."""
        super().set_random_state(seed, state)
        self.sampler.set_random_state(seed, state)
        return self

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Draw one rater and take it under each key; the item given is not changed."""
        d = dict(data)
        keys = list(self.key_iterator(d))
        counts = {len(d[key]) for key in keys}
        if len(counts) > 1:
            raise ValueError(f"expected as many raters under each of {keys}, got {[len(d[key]) for key in keys]}")
        weights = None if self.weights_key is None else d[self.weights_key]
        for number, key in enumerate(keys):
            d[key] = self.sampler(d[key], weights, randomize=number == 0)
        return d


class PadRaters(Transform):
    """Give a stack a fixed number of raters, for batches of cases with different ones; what is added weighs 0.

    Args:
        raters: R of the result, at least 1.
        value: the label value of the raters added. Losses check it like any value, so it should be one that the data has.

    Raises:
        ValueError: for raters < 1; when called: for more raters than that.

    Example:
        >>> votes, weights = PadRaters(3)(torch.tensor([[0, 1], [1, 1]]))
        >>> votes.shape, weights
        (torch.Size([3, 2]), tensor([1., 1., 0.]))
    """

    def __init__(self, raters: int, value: int = 0) -> None:
        if raters < 1:
            raise ValueError(f"raters: expected at least 1, got {raters!r}")
        self.raters = raters
        self.value = value

    def __call__(self, votes: torch.Tensor, rater_weights: Any = None) -> tuple[MetaTensor, torch.Tensor]:
        """Pad.

        Args:
            votes: label values `(r, *S)`, r <= R; r = 0 is a case that nobody labelled.
            rater_weights: `(r,)` of the raters that are there; None: 1 each.

        Returns:
            Votes `(R, *S)` of the same dtype, and weights `(R,)`, float32.
        """
        stack = convert_to_tensor(votes, track_meta=False)
        count = len(stack)
        if count > self.raters:
            raise ValueError(f"votes: expected at most {self.raters} raters, got {count}. Fix: a larger `raters`")
        given = torch.ones(count) if rater_weights is None else torch.as_tensor(rater_weights, dtype=torch.float32)
        if given.shape != (count,):
            raise ValueError(f"rater_weights: expected one weight for each of {count} raters, got shape {tuple(given.shape)}")
        weights = torch.cat([given, torch.zeros(self.raters - count)])
        filling = stack.new_full((self.raters - count, *stack.shape[1:]), self.value)
        return with_meta_of(votes, torch.cat([stack, filling])), weights


class PadRatersd(MapTransform):
    """Dictionary version of :class:`PadRaters`; the keys hold stacks of the same raters and share one vector of weights.

    Args:
        keys: keys of the rater stacks.
        raters: see :class:`PadRaters`.
        value: see :class:`PadRaters`.
        weights_key: where the weights `(R,)` go; if the item has some there already, one a rater, they are padded with 0.
        allow_missing_keys: leave out a key that the item does not have.

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
        """Pad each key's stack and write the weights; the item given is not changed."""
        d = dict(data)
        keys = list(self.key_iterator(d))
        if len({len(d[key]) for key in keys}) > 1:
            raise ValueError(f"expected as many raters under each of {keys}, got {[len(d[key]) for key in keys]}")
        given = d.get(self.weights_key)
        for key in keys:
            d[key], d[self.weights_key] = self.padder(d[key], given)
        return d


def rater_collate(
    batch: Sequence[Any],
    keys: KeysCollection | None = None,
    value: int = 0,
    weights_key: Hashable = RATER_WEIGHTS,
    collate: Callable[[Any], Any] = list_data_collate,
    estimates_keys: KeysCollection = (),
) -> Any:
    """Collate cases of different numbers of raters: pads every stack to the most of this batch, then collates.

    The result is what the losses take: `loss(logits, batch["votes"], rater_weights=batch["rater_weights"])` with `votes=True`.
    For a `DataLoader`, `collate_fn=rater_collate`, or `functools.partial(rater_collate, keys="raters")`.

    Args:
        batch: the data set's items; an item may be a list of items, as those of `RandCropByPosNegLabeld`.
        keys: keys of the rater stacks `(R, *S)`, the same raters under each; may be empty if `estimates_keys` are not. None:
            "votes", or where the items have no such key "raters", the key of data lists and of :class:`LoadRatersd`.
        value: as in :class:`PadRaters`.
        weights_key: where the weights `(N, R)` of the stacks go, and where an item's own are read from if it has some.
        collate: what collates the padded items.
        estimates_keys: keys of the raters' estimates, as :class:`FuseRatersd` writes them: a rater added has weight 0 and NaN in
            the rest.

    Returns:
        The batch, with stacks `(N, R, *S)`, weights `(N, R)`, float32, and estimates `(N, R, ...)`.

    Raises:
        ValueError: for a batch without items, or as :class:`PadRatersd`.
        TypeError: for a key that holds no stack, such as the paths of a data list.
        KeyError: for an item without a key; the message names the keys that it has.

    Example:
        >>> items = [{"votes": torch.zeros(2, 4, dtype=torch.uint8)}, {"votes": torch.ones(3, 4, dtype=torch.uint8)}]
        >>> together = rater_collate(items)
        >>> tuple(together["votes"].shape), together["rater_weights"].tolist()
        ((2, 3, 4), [[1.0, 1.0, 0.0], [1.0, 1.0, 1.0]])
    """
    items = [item for entry in batch for item in (entry if isinstance(entry, list) else [entry])]
    if not items:
        raise ValueError("batch: expected at least one item, got none")
    if keys is None:
        keys = "raters" if all("votes" not in item and "raters" in item for item in items) else "votes"
    names = (keys,) if isinstance(keys, str) else tuple(keys)  # type: ignore[arg-type]
    told = (estimates_keys,) if isinstance(estimates_keys, str) else tuple(estimates_keys)  # type: ignore[arg-type]
    for number, item in enumerate(items):
        _require_stacks(number, item, names)
    counts = [len(item[name]) for item in items for name in names]
    counts += [len(tensor) for item in items for key in told for name, tensor in item[key].items() if name in RATER_FIELDS]
    most = max([1, *counts])
    if names:
        pad = PadRatersd(names, most, value, weights_key)
        items = [pad(item) for item in items]
    return collate([{**item, **{key: _padded_estimates(item[key], most) for key in told}} for item in items])


def _require_stacks(number: int, item: Mapping[Any, Any], names: Sequence[Any]) -> None:
    for name in names:
        where = f"batch[{number}]" + (f" (case {item['case']})" if "case" in item else "")
        if name not in item:
            fix = "pass the key of the rater stacks, e.g. functools.partial(rater_collate, keys='raters')"
            raise KeyError(error_sentence(where, f"the key {name!r} of a rater stack", f"the keys {', '.join(map(str, item))}", fix))
        if not isinstance(item[name], (torch.Tensor, np.ndarray)):
            got = f"a {type(item[name]).__name__}"
            raise TypeError(error_sentence(f"{where}[{name!r}]", "a rater stack (R, *S)", got, "load the files with LoadRatersd first"))


def _padded_estimates(estimates: Mapping[str, torch.Tensor], raters: int) -> dict[str, torch.Tensor]:
    padded = dict(estimates)
    for name in RATER_FIELDS:
        if name in padded:
            own = padded[name]
            missing = own.new_full((raters - len(own), *own.shape[1:]), 0.0 if name == "weights" else float("nan"))
            padded[name] = torch.cat([own, missing])
    return padded
