"""Regions as they are typed on a command line."""

from __future__ import annotations

import ast
import json
from typing import Any

from monai_jdt.validation import error_sentence


def regions_from_text(text: str, option: str = "--regions") -> Any:
    """Read the option that says which label values make which regions.

    Args:
        text: a convention's name, or a mapping or list in JSON or in Python's quoting, as bundles take it.
        option: the option's name, for the error.

    Returns:
        What :func:`monai_jdt.raters.named_regions` takes.

    Raises:
        ValueError: for a mapping or list that cannot be read.

    Example:
        >>> regions_from_text("brats2021"), regions_from_text("{'cell': [1]}"), regions_from_text("[[1, 4], [4]]")
        ('brats2021', {'cell': [1]}, [[1, 4], [4]])
    """
    text = text.strip()
    if not text.startswith(("{", "[")):
        return text
    for read in (json.loads, ast.literal_eval):
        try:
            regions = read(text)
        except (ValueError, SyntaxError):
            continue
        if isinstance(regions, (dict, list)):
            return regions
    raise ValueError(error_sentence(option, "a convention or JSON", repr(text), """write it as '{"cord": [1]}' or '[[1, 4], [4]]'"""))
