"""Numbers, flags and sequences as arguments, and the one error sentence: what was expected, what was given, and how to mend it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from enum import Enum
from numbers import Integral, Real
from typing import Any, TypeVar

_Choice = TypeVar("_Choice", bound=Enum)


def error_sentence(name: str, expected: str, got: str, fix: str | None = None) -> str:
    """Return `name: expected X, got Y. Fix: Z.`, the form of every error message of the package.

    Args:
        name: the argument, setting or file at fault.
        expected: what it should be.
        got: what it is.
        fix: what the user can do, as an imperative; None where `expected` says it already.

    Returns:
        One line. A full stop is added where the text does not end with one.

    Example:
        >>> error_sentence("alpha", "a number >= 0", "-1", "pass alpha=0.5")
        'alpha: expected a number >= 0, got -1. Fix: pass alpha=0.5.'
    """
    sentence = f"{name}: expected {expected}, got {got}."
    if fix is not None:
        sentence += f" Fix: {fix}" + ("" if fix.endswith((".", "?", "!")) else ".")
    return re.sub(r"\s*[\r\n]\s*", " ", sentence)  # spaces within a path stay


def check_number(name: str, value: object, low: float, *, strict: bool = False, high: float = float("inf")) -> float:
    """Return a finite number within bounds.

    Args:
        name: the argument's, for the message.
        value: what was given.
        low: the smallest legal value.
        strict: `low` itself is not legal.
        high: the largest legal value.

    Raises:
        TypeError: not a real number.
        ValueError: out of bounds, NaN or infinite.
    """
    bound = f"{'>' if strict else '>='} {low:g}" + (f" and <= {high:g}" if high != float("inf") else "")
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(error_sentence(name, f"a number {bound}", f"{type(value).__name__} {value!r}", _fix_of_text(value)))
    number = float(value)
    if not (number > low if strict else number >= low) or not number <= high or number == float("inf"):
        raise ValueError(error_sentence(name, f"a finite number {bound}", repr(value)))
    return number


def check_bool(name: str, value: object) -> bool:
    """Return a bool.

    Raises:
        TypeError: anything else.
    """
    if not isinstance(value, bool):
        fix = f"write {value.lower()} without quotes" if isinstance(value, str) and value.lower() in ("true", "false") else None
        raise TypeError(error_sentence(name, "True or False", f"{type(value).__name__} {value!r}", fix))
    return value


def check_int(name: str, value: object) -> int:
    """Return a whole number.

    Raises:
        TypeError: anything else, bool included.
    """
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(error_sentence(name, "a whole number", f"{type(value).__name__} {value!r}", _fix_of_text(value)))
    return int(value)


def _fix_of_text(value: object) -> str | None:
    """Return how to write a number that was given as text. YAML reads `1e-6` as text: a number with an exponent needs its point.

    Example:
        >>> _fix_of_text("1e-6")
        'write 1.0e-6, a number; YAML reads 1e-6 as text'
    """
    if not isinstance(value, str):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    if "e" not in value.lower():
        return f"write {value.strip()} without quotes"
    mantissa, exponent = f"{number!r}".split("e") if "e" in f"{number!r}" else (f"{number!r}", "")
    if "." not in mantissa:
        mantissa += ".0"
    written = f"{mantissa}e{int(exponent):+d}" if exponent else mantissa
    return f"write {written}, a number; YAML reads {value.strip()} as text"


def check_sequence(name: str, value: Any, expected: str) -> tuple[Any, ...]:
    """Return the items of a sequence of any library. This is the one rule for every argument that takes several values.

    A list, a tuple, a range, another :class:`collections.abc.Sequence` (omegaconf's `ListConfig` is one), or an array or tensor,
    whose rows or numbers become Python's. Text, sets, mappings and iterators are refused: they have no items, no order or no end.

    Args:
        name: the argument's, for the message.
        value: what was given.
        expected: what it should be, for the message.

    Raises:
        TypeError: not a sequence.

    Example:
        >>> check_sequence("classes", range(3), "channel numbers")
        (0, 1, 2)
    """
    if isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray):
        return tuple(value)
    # numpy's arrays, torch's tensors, pandas' series
    if hasattr(value, "tolist") and hasattr(value, "__len__") and getattr(value, "ndim", 1) > 0:
        return tuple(value.tolist())
    raise TypeError(error_sentence(name, expected, f"{type(value).__name__} {value!r}"))


def check_name(name: str, value: object, names: Iterable[str]) -> str:
    """Return one of several names.

    Args:
        name: the argument's, for the message.
        value: what was given.
        names: the legal ones, in the order of the message.

    Raises:
        ValueError: anything else.

    Example:
        >>> check_name("reduction", "mean", ("mean", "sum"))
        'mean'
    """
    legal = list(names)
    if isinstance(value, str) and value in legal:
        return value
    raise ValueError(error_sentence(name, f"one of {', '.join(map(repr, legal))}", repr(value)))


def check_choice(name: str, value: object, kind: type[_Choice]) -> _Choice:
    """Return the member of an enum that has a value.

    Args:
        name: the argument's, for the message.
        value: a member, or its value.
        kind: the enum.

    Raises:
        ValueError: no member has the value.
    """
    try:
        return kind(value)
    except ValueError:
        names = ", ".join(repr(member.value) for member in kind)
        raise ValueError(error_sentence(name, f"one of {names}", repr(value))) from None
