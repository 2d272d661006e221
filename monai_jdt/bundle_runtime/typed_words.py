"""Settings that are text, as the user typed them: fire reads `2024_01_15` as 20240115, `run#1` as `run`, and `3.10` as 3.1."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from typing import Any


def words_of_flags(arguments: Sequence[str]) -> dict[str, str]:
    """Return the word that follows each flag of a command line, by the flag's name as fire passes it on.

    Args:
        arguments: the command line without the program's name.

    Example:
        >>> words_of_flags(["run", "--output-dir", "2024_01_15", "--figure_case=3.10", "--amp"])
        {'output_dir': '2024_01_15', 'figure_case': '3.10'}
    """
    words = {}
    for word, following in zip(arguments, [*arguments[1:], "--"], strict=False):
        if not _is_flag(word):
            continue
        name, equals, value = word.lstrip("-").partition("=")
        if equals or not _is_flag(following):
            words[name.replace("-", "_")] = value if equals else following
    return words


def as_typed(overrides: Mapping[str, Any], arguments: Sequence[str]) -> dict[str, str]:
    """Return those overrides that fire has changed, as text.

    Args:
        overrides: what MONAI was given, by key.
        arguments: the command line without the program's name.

    Returns:
        The words of the keys whose value is what fire makes of their word: the command line of another program, or a value from
        Python, is left alone. So are `None`, which stands for no value, and a word in quotes of its own, which fire unpacks.

    Example:
        >>> as_typed({"output_dir": 20240115, "figure_case": "3", "epochs": 7}, ["--output_dir", "2024_01_15", "--figure_case", "'3'"])
        {'output_dir': '2024_01_15'}
    """
    words = {name: word for name, word in words_of_flags(arguments).items() if overrides.get(name) is not None}
    if not words:
        return {}
    from fire.parser import DefaultParseValue  # only a run that fire has started gets here

    found = {}
    for name, word in words.items():
        read = DefaultParseValue(word)
        if type(read) is type(overrides[name]) and read == overrides[name] != word and not _is_quoted(word):
            found[name] = word
    return found


def _is_flag(word: str) -> bool:
    return re.match("--|-[a-zA-Z]", word) is not None  # as fire tells it: -5 is a number


def _is_quoted(word: str) -> bool:
    try:
        return isinstance(ast.literal_eval(word), str)
    except (ValueError, SyntaxError):
        return False
