"""The one error sentence: every message says what was expected, what was given, and how to mend it."""

from __future__ import annotations


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
    return " ".join(sentence.split())
