"""Read regions from the text of a command line."""

from __future__ import annotations

import ast
from typing import Any

from monai_jdt.data.layouts.regions import REGION_CONVENTIONS
from monai_jdt.validation import error_sentence


def regions_from_text(text: str, option: str = "--regions") -> Any:
    """Read the option that says which label values make which regions.

    Args:
        text: a convention's name, or a mapping or list in JSON or Python syntax, as bundles take it.
        option: the option's name, for the error.

    Returns:
        What :func:`monai_jdt.raters.named_regions` takes.

    Raises:
        ValueError: for an unknown convention, a mapping or list that cannot be read or has no label values, and a region named twice.

    Example:
        >>> regions_from_text("brats2021"), regions_from_text("{'cell': [1]}"), regions_from_text("[[1, 4], [4]]")
        ('brats2021', {'cell': [1]}, [[1, 4], [4]])
    """
    from monai_jdt.raters.region_names import named_regions  # imports torch, which takes a second; `--help` should not

    regions = _parsed_text(text.strip(), option)
    fix = f"""name one of {", ".join(REGION_CONVENTIONS)}, or write '{{"cord": [1]}}' or '[[1, 4], [4]]'"""
    if regions is None or (isinstance(regions, str) and regions not in REGION_CONVENTIONS):
        raise ValueError(error_sentence(option, "a convention or JSON", repr(text), fix))
    try:
        named_regions(regions)
    except (ValueError, TypeError) as error:
        problem = str(error).removeprefix("regions: ").removesuffix(".")
        raise ValueError(f"{option}: {problem}" + ("." if "Fix: " in problem else f". Fix: {fix}.")) from error
    return regions


def _parsed_text(text: str, option: str) -> Any:
    """Return the name of a convention, or the mapping or list that a text holds, or None if it cannot be read."""
    if not text.startswith(("{", "[")):
        return text
    try:
        tree = ast.parse(text, mode="eval").body  # JSON of names and numbers is Python, too
        regions = ast.literal_eval(tree)
    except (ValueError, SyntaxError, TypeError):
        return None
    keys = [ast.literal_eval(key) for key in tree.keys if key is not None] if isinstance(tree, ast.Dict) else []
    twice = next((key for number, key in enumerate(keys) if key in keys[:number]), None)
    if twice is not None:
        raise ValueError(error_sentence(option, "each region once", f"{twice!r} twice", "give it all its label values: [1, 2]"))
    return regions
