"""Find overlays that cancel each other: what one gives, a later one throws away without a word."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from monai.bundle import ConfigParser

from monai_jdt.bundle_runtime.workflow import StartedRun
from monai_jdt.validation import error_sentence

# Items that several overlays change. In other items the last file wins, as in MONAI.
_SHARED = ("loss", "votes_to_label", "train#trainer#loss_function", "train#trainer#prepare_batch")

# A loss that cannot add its sums over processes is laid over `multi_gpu_train.yaml`, and trains with those of each process.
_MAY_BE_LOST = ("loss#sync",)


def overlay_problems(run: StartedRun) -> Iterator[str]:
    """Compare the overlays of a run with each other, in the order in which they are merged.

    Args:
        run: the run.

    Yields:
        One line for each item whose class two overlays choose, and for each key that a later overlay removes by replacing what is
        around it.
    """
    files = [(os.path.basename(path), _keys(ConfigParser.load_config_file(path))) for path in run.files[1:]]
    for number, (name, given) in enumerate(files):
        for later, other in files[number + 1 :]:
            yield from _two_classes(name, given, later, other)
            yield from _lost_keys(name, given, later, other)


def _keys(content: Mapping[str, Any]) -> dict[str, Any]:
    return {key.replace("::", "#"): value for key, value in content.items()}


def _two_classes(name: str, given: Mapping[str, Any], later: str, other: Mapping[str, Any]) -> Iterator[str]:
    for item in _SHARED:
        classes = [_class_of(item, keys) for keys in (given, other)]
        if None not in classes and classes[0] != classes[1]:
            short = [str(one).rpartition(".")[2] for one in classes]
            yield error_sentence(item, "one overlay that chooses its class", f"{short[0]} of {name} and {short[1]} of {later}", _FIX)


_FIX = "leave one of the two out"


def _class_of(item: str, keys: Mapping[str, Any]) -> Any:
    node = keys.get(item)
    return node.get("_target_") if isinstance(node, Mapping) else keys.get(f"{item}#_target_")


def _lost_keys(name: str, given: Mapping[str, Any], later: str, other: Mapping[str, Any]) -> Iterator[str]:
    for key in given:
        item = next((item for item in _SHARED if key == f"+{item}" or key.startswith(f"{item}#")), None)
        if item is None or item not in other or key in _MAY_BE_LOST or key == f"{item}#_target_":
            continue
        node, argument = other[item], key.removeprefix(f"{item}#").partition("#")[0]
        if isinstance(node, Mapping) and argument in node:
            continue  # the later file gives it, too: the last one wins
        yield error_sentence(key.lstrip("+"), f"what {name} gives it", f"{item} of {later}, which replaces it", _FIX)
        return
