"""Read the value of one setting as its declaration says, or say in one line what was expected."""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from monai_jdt.bundle_runtime.kinds import AmongNames, Expected, KeyOf, devices_here
from monai_jdt.data.problems import DataProblemError
from monai_jdt.validation import error_sentence

_NOTHING = ("null", "none", "~")


def read_value(declared: type[BaseModel], name: str, value: Any) -> Any:
    """Read the value of a setting.

    Args:
        declared: the settings of the run.
        name: a setting among them.
        value: what the user gave.

    Returns:
        The value in the type that is declared.

    Raises:
        ValueError: with one line, `name: expected X, got Y. Fix: Z.`.

    Example:
        >>> from monai_jdt.bundle_runtime.brats_settings import BratsTraining
        >>> read_value(BratsTraining, "learning_rate", "1e-3")
        0.001
        >>> read_value(BratsTraining, "epochs", 1.5)
        Traceback (most recent call last):
        ValueError: epochs: expected a whole number >= 1, got 1.5. Fix: --epochs 20.
    """
    entry = declared.model_fields[name]
    if isinstance(value, str) and value.lower() in _NOTHING and _takes_none(entry.annotation):
        return None
    holder = declared.model_construct()
    try:
        declared.__pydantic_validator__.validate_assignment(holder, name, value)
    except ValidationError as error:
        # an unknown key explains why another one is missing
        first = min(error.errors(), key=lambda entry: entry["type"] != "extra_forbidden")
        cause = (first.get("ctx") or {}).get("error")
        if isinstance(cause, DataProblemError):  # a file that the setting names
            raise ValueError(f"{name}: {cause}") from error
        raise ValueError(_misfit(declared, name, value, first)) from error
    except (TypeError, RuntimeError) as error:
        raise ValueError(_misfit(declared, name, value, {})) from error
    read = getattr(holder, name)
    return read.model_dump(exclude_unset=True) if isinstance(read, BaseModel) else read


def _misfit(declared: type[BaseModel], name: str, value: Any, error: Mapping[str, Any]) -> str:
    entry = declared.model_fields[name]
    part = error.get("loc", (name,))[1:]
    nested = entry.annotation
    if part and isinstance(nested, type) and issubclass(nested, BaseModel):
        key = str(part[0])
        if key not in nested.model_fields:
            close = difflib.get_close_matches(key, nested.model_fields, n=1, cutoff=0.5)
            fix = f"did you mean {close[0]}?" if close else "remove it"
            return error_sentence(f"{name}#{key}", "one of " + ", ".join(nested.model_fields), "an unknown key", fix)
        got = value.get(key) if isinstance(value, Mapping) else value
        example = (nested.model_fields[key].examples or [None])[0]
        fix = "correct it" if example is None else f"--{name}#{key} {example}"
        return error_sentence(f"{name}#{key}", expected_text(nested.model_fields[key]), shown(got), fix)
    return error_sentence(name, expected_text(entry), shown(value), _fix(name, entry, value))


def _fix(name: str, entry: FieldInfo, value: Any) -> str:
    for note in _notes(entry):
        if isinstance(note, AmongNames):
            return f"--{name} {closest(str(value), note.names)}"
    if name == "device":
        return f"--device {devices_here()[0]}"
    examples = entry.examples or []
    example = f"--{name} {examples[0]}" if examples else None
    if name == "regions" and isinstance(value, str):
        from monai_jdt.data.layouts.regions import REGION_CONVENTIONS

        return f"--regions {closest(value, tuple(REGION_CONVENTIONS))}, or {example}"
    if name == "datalist":
        return "--datalist list.json, or give the cases in an overlay file"
    if isinstance(value, tuple) and "path" in expected_text(entry):
        return f"give one path; a comma in its name needs quotes within quotes: --{name} \"'{','.join(map(str, value))}'\""
    return example or "correct it"


def closest(name: str, known: Sequence[str]) -> str:
    """Return the known name that is nearest to a misspelt one, or the first if none is near.

    Args:
        name: the misspelt name.
        known: the known names.

    Example:
        >>> closest("STAPPLE", ("average", "staple"))
        'staple'
    """
    near = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.4)
    return near[0] if near else known[0]


def shown(value: Any, most: int = 100) -> str:
    """Return a value as text for a message, on one line and shortened.

    Args:
        value: any value.
        most: number of characters.
    """
    if value is None:
        return "null"
    text = " ".join(repr(value).split())
    return text if len(text) <= most else text[: most - 3] + "..."


def expected_text(entry: FieldInfo) -> str:
    """Return the words for the values that a setting takes: its type, its range, its choices.

    Args:
        entry: the declaration.

    Example:
        >>> from monai_jdt.bundle_runtime.brats_settings import BratsTraining
        >>> expected_text(BratsTraining.model_fields["roi"])
        'a list of 2 or 3 whole numbers from 1 to 4096'
    """
    return _in_words(entry.annotation, entry.metadata)


def _in_words(annotation: Any, notes: Sequence[Any]) -> str:
    inner, notes = _without_notes(annotation, notes)
    for note in reversed(notes):  # the outer ones say more
        if isinstance(note, Expected):
            return note.text
        if isinstance(note, (AmongNames, KeyOf)):
            return "one of " + ", ".join(note.names)
    if get_origin(inner) in (Union, types.UnionType):
        return ", or ".join(_in_words(kind, notes) if kind is not type(None) else "null" for kind in get_args(inner))
    if inner is bool:
        return "true or false"
    if get_origin(inner) is Literal:
        return " or ".join(get_args(inner))
    if inner in (int, float):
        return ("a whole number" if inner is int else "a number") + _range(notes)
    if get_origin(inner) is list:
        (kind,) = get_args(inner)
        least, most = (_bound(notes, mark) for mark in (annotated_types.MinLen, annotated_types.MaxLen))
        count = "" if most is None else f"{least} " if least == most else f"{least} or {most} "
        return f"a list of {count}" + _in_words(kind, ()).removeprefix("a ").replace("number", "numbers", 1)
    if isinstance(inner, type) and issubclass(inner, BaseModel):
        return "a dictionary with " + ", ".join(inner.model_fields)
    return "text" if inner is str else "a value"


def _range(notes: Sequence[Any]) -> str:
    kinds = (annotated_types.Ge, annotated_types.Gt, annotated_types.Le, annotated_types.Lt)
    least, above, most, below = (_bound(notes, kind) for kind in kinds)
    if least is not None and most is not None:
        return f" from {least} to {most}"
    if above is not None and below is not None:
        return f" between {above} and {below}, both excluded"
    if above is not None:
        return f" > {above}"
    return f" >= {least}" if least is not None else ""


def _bound(notes: Sequence[Any], kind: type) -> Any:
    attribute = {"Ge": "ge", "Gt": "gt", "Le": "le", "Lt": "lt", "MinLen": "min_length", "MaxLen": "max_length"}[kind.__name__]
    return next((getattr(note, attribute) for note in _flattened_notes(notes) if isinstance(note, kind)), None)


def _flattened_notes(notes: Sequence[Any]) -> Iterator[Any]:
    for note in notes:
        if isinstance(note, FieldInfo):
            yield from _flattened_notes(note.metadata)
        else:
            yield note


def _without_notes(annotation: Any, notes: Sequence[Any]) -> tuple[Any, list[Any]]:
    found = list(notes)
    while get_origin(annotation) is Annotated:
        annotation, *inner = get_args(annotation)
        found = [*inner, *found]
    return annotation, found


def _notes(entry: FieldInfo) -> list[Any]:
    return list(_flattened_notes(_without_notes(entry.annotation, entry.metadata)[1]))


def is_text(entry: FieldInfo) -> bool:
    """Return whether a setting is text: a name or a path, and null if it can be left out.

    Args:
        entry: the declaration.

    Example:
        >>> from monai_jdt.bundle_runtime.brats_settings import BratsTraining
        >>> [is_text(BratsTraining.model_fields[name]) for name in ("figure_case", "dataset_dir", "epochs")]
        [True, True, False]
    """
    inner, _ = _without_notes(entry.annotation, ())
    kinds = get_args(inner) if get_origin(inner) in (Union, types.UnionType) else (inner,)
    return {_without_notes(kind, ())[0] for kind in kinds} - {type(None)} == {str}


def _takes_none(annotation: Any) -> bool:
    return type(None) in get_args(annotation)
