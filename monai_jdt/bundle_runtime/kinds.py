"""The types of settings: how a value is read from a command line or a file, and the words for it in a message.

Fire reads `2021` as a number, `a,b` as a tuple and `null` as text. YAML reads `1e-3` as text. A value with one possible meaning is
converted. Ranges and choices stand in the declarations (:mod:`monai_jdt.bundle_runtime.declarations`).
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from pydantic import AfterValidator, BeforeValidator, Field, GetCoreSchemaHandler
from pydantic_core import core_schema

from monai_jdt.data.files.label_values import LARGEST_LABEL
from monai_jdt.data.layouts.regions import REGION_CONVENTIONS
from monai_jdt.raters import named_regions


@dataclass(frozen=True)
class Expected:
    """The words after "expected" in a message and in the docs' table, where the type and its range do not give them."""

    text: str


@dataclass(frozen=True)
class AmongNames:
    """One of a few names. The message for another one suggests the closest."""

    names: tuple[str, ...]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        """Let pydantic look a name up after it has checked the type."""
        return core_schema.no_info_after_validator_function(self._look_up, handler(source))

    def _look_up(self, value: Any) -> Any:
        if value not in self.names:
            raise ValueError(f"unknown name {value!r}")
        return value


@dataclass(frozen=True)
class KeyOf:
    """One of the keys of another item of the config. An overlay may add or remove some.

    Args:
        item: that item.
        names: its keys as the bundle has them, for the docs.
    """

    item: str
    names: tuple[str, ...]


def also(*names: str, overlay: str | None = None) -> Any:
    """Return a declaration's note of other names for its setting, and of the overlay without which no run has it.

    Args:
        names: names that users may type instead; the message for them says "did you mean".
        overlay: the file's name; None: every run has the setting.
    """
    return {"also": list(names)} | ({"overlay": overlay} if overlay is not None else {})


def _no_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("bool where a number is expected")
    return value


def _as_name(value: Any) -> Any:
    """Return a name as text: fire reads the name `3` as a number."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or not value.strip():
        raise ValueError("no name")
    return value


def _as_path(value: Any) -> Any:
    """Return a path as text, with `~` expanded."""
    if isinstance(value, tuple) and all(isinstance(part, (str, int)) for part in value):
        joined = ",".join(str(part) for part in value)  # fire splits a path at its commas
        if not os.path.exists(joined):
            raise ValueError("several paths")
        return joined
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    text = _as_name(value)
    # MONAI replaces # by :: in every text of a config, so that another folder would be read or written
    if "\0" in text or "#" in text or "::" in text:
        raise ValueError("no path")
    return os.path.expanduser(text)


def _as_paths(value: Any) -> Any:
    return [_as_path(part) for part in ([value] if isinstance(value, (str, os.PathLike)) else value)]


def _as_list(value: Any) -> Any:
    return list(value) if isinstance(value, (tuple, range)) else value


def _as_names(value: Any) -> Any:
    return [_as_name(part) for part in ([value] if isinstance(value, (str, int, float)) else value)]


def _as_device(value: Any) -> Any:
    """Return a device that this machine has. A number is that of a GPU, as for PyTorch."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = f"cuda:{value}"
    device = torch.device(value) if isinstance(value, str) else value
    if not isinstance(device, torch.device):
        raise ValueError("no device")
    if device.type == "cuda" and not (device.index or 0) < torch.cuda.device_count():
        raise ValueError("no such GPU")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ValueError("no such GPU")
    return value


def devices_here() -> list[str]:
    """Return the devices of this machine, the fastest kind first."""
    gpus = [f"cuda:{n}" for n in range(torch.cuda.device_count())]
    return [*gpus, *(["mps"] if torch.backends.mps.is_available() else []), "cpu"]


def _as_regions(value: Any) -> Any:
    if not isinstance(value, (str, Mapping, list, tuple)):
        raise ValueError("no regions")
    groups = named_regions(value)
    if any(abs(label) > LARGEST_LABEL for group in groups.values() for label in group):
        raise ValueError("no label value")
    return value


def _label_value(value: int) -> int:
    if abs(value) > LARGEST_LABEL:
        raise ValueError("no label value")
    return value


def _as_cases(value: Any) -> Any:
    if not isinstance(value, (list, tuple)) or not all(isinstance(item, Mapping) and {"case", "image"} <= set(item) for item in value):
        raise ValueError("no data list")
    return value


def _refuse_infinite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError("not finite")
    return value


Whole = Annotated[int, BeforeValidator(_no_bool)]
Number = Annotated[float, BeforeValidator(_no_bool), AfterValidator(_refuse_infinite)]
NameText = Annotated[str, BeforeValidator(_as_name), Expected("a name")]
NameList = Annotated[list[str], BeforeValidator(_as_names), Expected("a list of names")]
PathText = Annotated[str, BeforeValidator(_as_path), Expected("a path without # or ::")]
PathList = Annotated[list[str], BeforeValidator(_as_paths), Expected("a list of paths without # or ::")]
WholeList = Annotated[list[Whole], BeforeValidator(_as_list)]
VoxelSize = Annotated[
    list[Annotated[Number, Field(gt=0)]], BeforeValidator(_as_list), Field(min_length=2, max_length=3), Expected("2 or 3 numbers > 0")
]
DeviceName = Annotated[Any, AfterValidator(_as_device), Expected("a device of this machine")]
Regions = Annotated[
    Any,
    AfterValidator(_as_regions),
    Expected(
        f"a convention ({', '.join(REGION_CONVENTIONS)}), or channel names with label values from -{LARGEST_LABEL} to {LARGEST_LABEL}"
    ),
]
LabelValues = Annotated[
    list[Annotated[Whole, AfterValidator(_label_value)]],
    BeforeValidator(_as_list),
    Expected(f"a list of whole numbers from -{LARGEST_LABEL} to {LARGEST_LABEL}"),
]
Cases = Annotated[
    Any, AfterValidator(_as_cases), Expected("a data list's path, or a list of cases, each a dictionary with case and image")
]
