"""Collate cases of different numbers of raters into one batch."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data.utils import list_data_collate

from monai_jdt.transforms.fuse_raters import RATER_FIELDS
from monai_jdt.transforms.pad_raters import RATER_WEIGHTS, PadRatersd
from monai_jdt.validation import error_sentence


def rater_collate(
    batch: Sequence[Any],
    keys: KeysCollection | None = None,
    value: int = 0,
    weights_key: Hashable = RATER_WEIGHTS,
    collate: Callable[[Any], Any] = list_data_collate,
    estimates_keys: KeysCollection = (),
) -> Any:
    """Pad every stack to the largest number of raters in the batch, then collate.

    The result is what the losses take: `loss(logits, batch["votes"], rater_weights=batch["rater_weights"])` with `votes=True`.
    Names of raters, where the items have lists of them under "rater_names", are padded with "".
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
        raise ValueError(error_sentence("batch", "at least one item", "none"))
    if keys is None:
        keys = "raters" if all("votes" not in item and "raters" in item for item in items) else "votes"
    names = (keys,) if isinstance(keys, str) else tuple(keys)  # type: ignore[arg-type]
    estimated = (estimates_keys,) if isinstance(estimates_keys, str) else tuple(estimates_keys)  # type: ignore[arg-type]
    for number, item in enumerate(items):
        _require_stacks(number, item, names)
    counts = [len(item[name]) for item in items for name in names]
    counts += [len(tensor) for item in items for key in estimated for name, tensor in item[key].items() if name in RATER_FIELDS]
    most = max([1, *counts])
    if names:
        pad = PadRatersd(names, most, value, weights_key)
        items = [pad(item) for item in items]
    # lists of different lengths cannot be collated
    items = [item if (own := item.get("rater_names")) is None else {**item, "rater_names": _padded(own, most)} for item in items]
    return collate([{**item, **{key: _padded_estimates(item[key], most) for key in estimated}} for item in items])


def _require_stacks(number: int, item: Mapping[Any, Any], names: Sequence[Any]) -> None:
    for name in names:
        where = f"batch[{number}]" + (f" (case {item['case']})" if "case" in item else "")
        if name not in item:
            fix = "pass the key of the rater stacks, e.g. functools.partial(rater_collate, keys='raters')"
            raise KeyError(error_sentence(where, f"the key {name!r} of a rater stack", f"the keys {', '.join(map(str, item))}", fix))
        if not isinstance(item[name], (torch.Tensor, np.ndarray)):
            got = f"a {type(item[name]).__name__}"
            raise TypeError(error_sentence(f"{where}[{name!r}]", "a rater stack (R, *S)", got, "load the files with LoadRatersd first"))


def _padded(names: Sequence[str], raters: int) -> list[str]:
    return [*names, *[""] * (raters - len(names))]


def _padded_estimates(estimates: Mapping[str, torch.Tensor], raters: int) -> dict[str, torch.Tensor]:
    padded = dict(estimates)
    for name in RATER_FIELDS:
        if name in padded:
            own = padded[name]
            missing = own.new_full((raters - len(own), *own.shape[1:]), 0.0 if name == "weights" else float("nan"))
            padded[name] = torch.cat([own, missing])
    return padded
