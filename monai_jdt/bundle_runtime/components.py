"""Check the components of a config before they are built: their classes exist, and take the arguments that the config gives."""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, get_type_hints

from monai.bundle.config_item import ComponentLocator, ConfigComponent

from monai_jdt.validation import error_sentence


def component_problems(config: Any, locator: ComponentLocator, name: str = "") -> Iterator[str]:
    """Check every node of a config that has a `_target_`.

    A function or class with `**kwargs` may take any argument. A component that is disabled is not checked.

    Args:
        config: the merged config, or a part of it.
        locator: finds the short names of MONAI's classes.
        name: the id of that part.

    Yields:
        One line for each class that is not there, and for each argument that it does not take.
    """
    if isinstance(config, Mapping) and isinstance(target := config.get("_target_"), str):
        if _is_disabled(config):
            return
        if not target.startswith(("$", "@", "%")):
            yield from _problems_of_one(name, config, target, locator)
    if isinstance(config, (Mapping, list)):
        for key, part in config.items() if isinstance(config, Mapping) else enumerate(config):
            yield from component_problems(part, locator, f"{name}#{key}" if name else str(key))


def is_enabled(component: Mapping[str, Any]) -> bool:
    """Return whether a component is built for sure: `_disabled_` is absent or false, and no expression.

    Args:
        component: a node of a config.

    Example:
        >>> [is_enabled({"_target_": "x", **more}) for more in ({}, {"_disabled_": "true"}, {"_disabled_": "$@rank > 0"})]
        [True, False, False]
    """
    return str(component.get("_disabled_", False)).lower() == "false"


def _is_disabled(component: Mapping[str, Any]) -> bool:
    return str(component.get("_disabled_", False)).lower() == "true"  # as MONAI reads it


def _problems_of_one(name: str, config: Mapping[str, Any], target: str, locator: ComponentLocator) -> Iterator[str]:
    component, closest = _find(target, locator)
    if component is not None:
        yield from _unknown_arguments(name, config, target, component)
        yield from _mistyped_arguments(name, config, target, component)
    elif is_enabled(config):  # where an expression decides, the package may be absent
        fix = f"did you mean {closest}?" if closest else "correct its name, or install its package"
        yield error_sentence(f"{name}#_target_", "a class or function that can be imported", repr(target), fix)


def _unknown_arguments(name: str, config: Mapping[str, Any], target: str, component: Callable[..., Any]) -> Iterator[str]:
    try:
        parameters = inspect.signature(component).parameters
    except (TypeError, ValueError):  # a builtin without a signature
        return
    if any(entry.kind is inspect.Parameter.VAR_KEYWORD for entry in parameters.values()):
        return
    known = [key for key, entry in parameters.items() if entry.kind is not inspect.Parameter.VAR_POSITIONAL]
    for key in config:
        if key not in known and key not in ConfigComponent.non_arg_keys and key != "_debug_":  # read by monai.utils.instantiate
            close = difflib.get_close_matches(str(key), known, n=1, cutoff=0.6)
            expected = f"an argument of {target.rpartition('.')[2]}"
            fix = f"did you mean {close[0]}?" if close else "remove it; the arguments are " + ", ".join(known)
            if name == "loss" and key == "sync":
                fix = "name the file of this loss after multi_gpu_train.yaml"
            yield error_sentence(f"{name}#{key}", expected, "an unknown one", fix)


# What a declared type expects, and how to write it.
_WHOLE = ("a whole number", "write a whole number")
_NUMBER = ("a number", "write a number; YAML reads 1e-3 as text, 1.0e-3 as a number")
_NUMBERS = {int: _WHOLE, int | None: _WHOLE, float: _NUMBER, float | None: _NUMBER}


def _mistyped_arguments(name: str, config: Mapping[str, Any], target: str, component: Callable[..., Any]) -> Iterator[str]:
    """Text where the component declares a number. Other types are left to the component: many take more than they declare."""
    try:
        hints = get_type_hints(component.__init__ if inspect.isclass(component) else component)
    except Exception:  # an annotation may name what is imported for type checkers only
        return
    for key, value in config.items():
        if hints.get(key) in _NUMBERS and isinstance(value, str) and not value.startswith(("$", "@", "%")):
            expected, fix = _NUMBERS[hints[key]]
            yield error_sentence(f"{name}#{key}", f"{expected}, as {target.rpartition('.')[2]} declares it", repr(value), fix)


def _find(target: str, locator: ComponentLocator) -> tuple[Callable[..., Any] | None, str | None]:
    """Return the component of a name and None, or None and the closest name."""
    if "." not in target:
        modules = locator.get_component_module_name(target)
        if modules is None:
            close = difflib.get_close_matches(target, locator._components_table or {}, n=1)
            return None, close[0] if close else None
        target = f"{modules if isinstance(modules, str) else modules[0]}.{target}"
    parts = target.split(".")
    for depth in range(len(parts) - 1, 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:depth]))
        except ImportError:
            continue
        for place, part in enumerate(parts[depth:], depth):
            if not hasattr(found, part):
                close = difflib.get_close_matches(part, dir(found), n=1)
                near = ".".join([*parts[:place], close[0], *parts[place + 1 :]]) if close else None
                return None, near
            found = getattr(found, part)
        return (found, None) if callable(found) else (None, None)
    return None, None
