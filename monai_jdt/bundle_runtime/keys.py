"""Which keys a run was given, and which of them stand for nothing."""

from __future__ import annotations

import difflib
import inspect
import os
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from monai_jdt.bundle_runtime.exits import exit_with_error


def refuse_unknown_overrides(arguments: Sequence[str] | None = None) -> None:
    """End a `python -m monai.bundle run` whose command line overrides a key that no config file has.

    MONAI adds such a key to the config and says nothing, so that `--epoch 3` trains with the default `epochs`. A new
    keyword below a node with a `_target_` is taken as a constructor argument and let through. Where the process is not
    `python -m monai.bundle run` (or `run_workflow`), nothing is checked.

    Args:
        arguments: the command line, program first; None takes that of this process.

    Raises:
        SystemExit: with code 1, after one line that names the closest key.
    """
    arguments = list(sys.argv if arguments is None else arguments)
    program = os.path.normpath(arguments[0]).split(os.sep) if arguments else []
    if program[-3:] != ["monai", "bundle", "__main__.py"] or arguments[1:2] not in (["run"], ["run_workflow"]):
        return
    given = _command_line_overrides(arguments[2:])
    args_file = given.get("args_file")
    if args_file is not None:
        given = {**_read_config(args_file), **given}
    files = given.get("config_file")
    if files is None:
        return
    unknown = unknown_overrides(_read_config(files), [k for k in given if k not in _parameters_of_run(given)])
    if unknown:
        for line in unknown[1:]:
            print(line, file=sys.stderr)
        exit_with_error(unknown[0])


def unknown_overrides(config: Mapping[str, Any], keys: Sequence[str]) -> list[str]:
    """Say which keys of a command line stand for nothing in a config.

    Args:
        config: the merged content of the config files, before any override.
        keys: ids as on the command line: `epochs`, `train#trainer#max_epochs`, `train::trainer::max_epochs`.

    Returns:
        One line for each key that is unknown, with the closest known one.

    Example:
        >>> unknown_overrides({"epochs": 20, "net": {"_target_": "SegResNet"}}, ["epochs", "net#dropout_prob"])
        []
        >>> unknown_overrides({"epochs": 20}, ["epoch"])
        ['--epoch: expected a key of the config files, got an unknown one; did you mean --epochs?']
    """
    lines = []
    for key in keys:
        node: Any = config
        for depth, part in enumerate(parts := re.split(r"::|#", key)):
            choices = _children(node)
            if part not in choices:
                if isinstance(node, Mapping) and "_target_" in node and depth == len(parts) - 1:
                    break  # a further argument of that component
                lines.append(_unknown_line(key, parts[:depth], part, choices))
                break
            node = node[part] if isinstance(node, Mapping) else node[int(part)]
    return lines


def _children(node: Any) -> list[str]:
    if isinstance(node, Mapping):
        return [str(name) for name in node]
    return [str(i) for i in range(len(node))] if isinstance(node, list) else []


def _unknown_line(key: str, parents: Sequence[str], part: str, choices: Sequence[str]) -> str:
    close = difflib.get_close_matches(part, [c for c in choices if not c.startswith("_")], n=1, cutoff=0.5)
    if part.startswith("+") and part[1:] in choices:
        hint = "'+' merges in a config file only; put it into an overlay file"
    elif close:
        hint = f"did you mean --{'#'.join([*parents, close[0]])}?"
    else:
        hint = "a new key belongs into an overlay file of --config_file"
    return f"--{key}: expected a key of the config files, got an unknown one; {hint}"


def _command_line_overrides(arguments: Sequence[str]) -> dict[str, Any]:
    """Keys and values of `--key value`, `--key=value`, `--flag`, as fire reads them."""
    from fire.parser import DefaultParseValue

    given: dict[str, Any] = {}
    key: str | None = None
    for argument in arguments:
        if argument == "--":
            break  # what follows is for fire itself
        if re.match(r"--|-[a-zA-Z]", argument):
            name, equals, value = argument.lstrip("-").partition("=")
            # fire turns the dashes of a name into underscores
            key = name.replace("-", "_")
            given[key] = DefaultParseValue(value) if equals else True
            if equals:
                key = None
        elif key is not None:
            given[key] = DefaultParseValue(argument)
            key = None
    return given


def _parameters_of_run(given: Mapping[str, Any]) -> set[str]:
    from monai.bundle import ConfigWorkflow, run, run_workflow

    names = {name for f in (run, run_workflow, ConfigWorkflow.__init__) for name in inspect.signature(f).parameters}
    if "tracking" in given:
        names |= {"output_dir", "tracking_uri", "experiment_name", "run_name", "save_execute_config"}
    return names


def _read_config(files: Any) -> dict[str, Any]:
    from monai.bundle import ConfigParser

    return ConfigParser.load_config_files(files)
