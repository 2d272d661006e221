"""The people of a data list: a name is the same rater in every case."""

from __future__ import annotations

import difflib
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from monai_jdt.data.layouts.folders import natural_key
from monai_jdt.validation import error_sentence

_FIX = "list the cases by a pattern with {rater}, or write the raters as an object, by their names"


def names_of_raters(items: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the names of all raters of a list, each once, in natural order ("rater 2" before "rater 10").

    Args:
        items: of a data list. Each that has "raters" has as many "rater_names", as
            :func:`monai_jdt.data.read_datalist` gives them with `rater_names=True`.

    Raises:
        ValueError: no item has raters, one has raters without names, or a name twice.

    Example:
        >>> names_of_raters([{"raters": ["b.png"], "rater_names": ["ben"]}, {"raters": ["a.png"], "rater_names": ["anna"]}])
        ['anna', 'ben']
    """
    found: set[str] = set()
    for number, item in enumerate(items):
        raters = item.get("raters")
        if raters:
            found.update(names_in_item(item, 1 if isinstance(raters, str) else len(raters), f"items[{number}]"))
    if not found:
        raise ValueError(error_sentence("items", "raters with names", "no rater", _FIX))
    return sorted(found, key=natural_key)


def names_in_item(item: Mapping[Any, Any], raters: int, where: str, key: Any = "rater_names") -> list[str]:
    """Return the names of the raters of one item.

    Args:
        item: of a data list.
        raters: how many it has.
        where: the item, for the error. Its case is added.
        key: where the names stand.

    Raises:
        ValueError: no names, another number of them, or a name twice.
    """
    names = item.get(key)
    where = f"{where} (case {item['case']})" if "case" in item else where
    if not isinstance(names, (list, tuple)):
        raise ValueError(error_sentence(f"{where}: {key}", f"{raters} names", "none" if names is None else repr(names), _FIX))
    texts = [str(name) for name in names]
    twice = next((name for name, count in Counter(texts).items() if count > 1), None)
    if len(texts) != raters or twice is not None:
        got = f"{twice!r} twice" if twice is not None else f"{len(texts)} names"
        raise ValueError(error_sentence(f"{where}: {key}", f"one name for each of {raters} raters, all different", got, _FIX))
    return texts


def checked_weights(weights: Mapping[str, float], names: Sequence[str], where: str = "rater_weights") -> dict[str, float]:
    """Return a weight for each name: those given, and 1 for the others.

    Args:
        weights: name to weight, 0 or more. 0 leaves a rater out.
        names: all names there are.
        where: the argument, for the error.

    Raises:
        ValueError: a name that is none of these, or a weight below 0 or not finite.

    Example:
        >>> checked_weights({"anna": 2}, ["anna", "ben"])
        {'anna': 2.0, 'ben': 1.0}
    """
    for name, weight in weights.items():
        if name not in names:
            close = difflib.get_close_matches(str(name), names, n=1)
            expected = "names among " + ", ".join(names)
            raise ValueError(error_sentence(where, expected, repr(name), f"name {(close or list(names))[0]}"))
        if not (isinstance(weight, (int, float)) and math.isfinite(weight) and weight >= 0):
            raise ValueError(error_sentence(f"{where}[{name!r}]", "a number of at least 0", repr(weight)))
    return {name: float(weights.get(name, 1)) for name in names}
