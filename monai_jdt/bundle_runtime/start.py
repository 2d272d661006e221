"""Check a run before its first step. Each problem with its settings is one line."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from copy import deepcopy
from importlib.util import find_spec
from typing import Any

import torch
from monai.bundle import ConfigParser

from monai_jdt.bundle_runtime.building import components_in, trial_problems
from monai_jdt.bundle_runtime.components import component_problems, is_enabled
from monai_jdt.bundle_runtime.contradictions import contradictions
from monai_jdt.bundle_runtime.declarations import CheckpointSettings, RunSettings
from monai_jdt.bundle_runtime.exits import exit_with_error, innermost
from monai_jdt.bundle_runtime.keys import key_problems
from monai_jdt.bundle_runtime.overlays import overlay_problems
from monai_jdt.bundle_runtime.tracking import without_usage_reports
from monai_jdt.bundle_runtime.typed_words import as_typed
from monai_jdt.bundle_runtime.values import is_text, read_value, shown
from monai_jdt.bundle_runtime.workflow import StartedRun, file_of, started_run
from monai_jdt.data.datalist_file import with_changed_paths
from monai_jdt.data.names import user_path
from monai_jdt.validation import error_sentence

# What a launcher of several processes tells each of them; the place on a machine only where each takes a GPU of its own.
_LAUNCHED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", *(("LOCAL_RANK",) if torch.cuda.is_available() else ()))

# Other items of the config that settings are compared with, most of them arguments of components.
_ARGUMENTS = (
    "consistency#sigmoid",
    "network_def#blocks_down",
    "network_def#spatial_dims",
    "loss#_target_",
    "loss#average",
    "loss#ignore_index",
    "loss#label_smoothing",
    "loss#lambda_jdt",
    "loss#regions",
    "loss#softmax",
    "loss#to_onehot_y",
    "loss#votes",
    "lr_scheduler#T_max",
    "region_names",
    "split",
    "train#inferer#_target_",
    "train#trainer#loss_function#_target_",
    "train#trainer#max_epochs",
    "trained_settings#out_channels",
)

# Items of which a setting names a key.
_TABLES = ("normalizations", "fusions", "croppings")


def check_run(declared: type[RunSettings], *, several_processes: bool = False) -> None:
    """End a run whose settings are wrong, before anything is read or written. A config calls it first in `initialize`.

    The check covers the keys of the command line and of every file, the classes and arguments of components, each declared setting, and
    settings that contradict each other. Values are put into the config in the declared type, so that `--dataset_dir 2021` is a path.
    Settings that the config computes are computed and checked, first those that do not depend on the data.

    Args:
        declared: the settings of the run, e.g. :class:`BratsTraining`.
        several_processes: whether the config needs a launcher of several processes (`torchrun`).

    Raises:
        SystemExit: with code 1, after one line on standard error for each problem; the first one comes last, as
            `monai_jdt: error: ...`.
    """
    run = started_run()
    if run is None:
        return
    for problems in _stages(run, declared, several_processes):
        if problems:
            _withdraw_saved_config(run)
            for line in problems[1:]:
                print(line, file=sys.stderr)
            exit_with_error(problems[0])
    if _is_tracked(run):
        without_usage_reports()


def _withdraw_saved_config(run: StartedRun) -> None:
    """Remove the copy of the config that MONAI writes for a tracked run before it evaluates `initialize`."""
    if "save_execute_config" not in run.config:
        return
    with suppress(Exception):  # the message about the settings matters more
        path = str(run.parser.get_parsed_content("save_execute_config"))
        if re.fullmatch(r"config_\d{8}_\d{6}\.json", os.path.basename(path)):
            os.remove(path)
            os.rmdir(os.path.dirname(path))


def _stages(run: StartedRun, declared: type[RunSettings], several_processes: bool) -> Iterator[list[str]]:
    """Yield the problems of one stage after the other. Each stage relies on the ones before it."""
    yield list(_environment_problems(run, several_processes))
    yield list(_take_path_of_list(run))
    yield list(overlay_problems(run))
    yield key_problems(run, declared)
    yield list(component_problems(run.config, run.parser.locator))
    problems, values = _given_values(run, declared)
    yield problems
    yield list(_place_cases_of_config(run))
    early, late = _computed(run, declared)
    yield contradictions(values, pending=[*early, *late])
    for names, pending in ((early, late), (late, [])):
        problems, found = _computed_values(run, declared, names)
        yield problems
        values |= found
        written = {name: values[name] for name in declared.written if name in values}
        yield contradictions({**values, "written": written}, pending)
        for tried in _tried(run, with_data=names is late, training=_trains(declared)):
            yield list(trial_problems(run.parser, values, tried, training=_trains(declared)))


def _take_path_of_list(run: StartedRun) -> Iterator[str]:
    """Make `--datalist list.json` mean `--datalist_file list.json`: `datalist` itself is what the config reads from the file.

    An expression of the config cannot do this. A list that is computed needs the folder of the data, and that needs the list's path.
    """
    path = run.config.get("datalist")
    is_path = isinstance(path, str) and not path.startswith(("$", "@", "%"))
    is_split_by_fire = isinstance(path, tuple) and all(isinstance(part, str) for part in path)  # a path with commas
    if not (is_path or is_split_by_fire) or "cases_found" not in run.config:
        return
    other = run.config.get("datalist_file")
    if other is not None:
        got = f"{shown(path)}, and {shown(other)} as datalist_file"
        yield error_sentence("datalist", "one data list", got, "leave out one of the two")
        return
    run.parser["datalist_file"] = path
    run.parser["datalist"] = "@cases_found"


def _place_cases_of_config(run: StartedRun) -> Iterator[str]:
    """Let relative paths of cases that a config itself lists begin at `dataset_dir`. Without it they are refused, and nothing is made.

    Nothing else says what such a path is relative to, as the folder of a file does. An expression makes its own paths.
    """
    config, items = run.config, run.parser.get("datalist")
    if "cases_found" not in config or config.get("datalist_file") is not None or _needs(run, "datalist", "data_dir", set()):
        return
    folder = run.parser.get("dataset_dir")
    if folder is None:
        run.parser["data_dir"] = "$bundle_start.folder_of_images(@datalist)"
    if _is_computed(items):
        return
    root = None if folder is None else os.path.abspath(run.parser.get_parsed_content("dataset_dir"))
    relative: list[str] = []

    def placed(path: str) -> str:
        path = user_path(path)
        if root is None and not os.path.isabs(path):
            relative.append(path)
        return path if root is None else os.path.join(root, path)

    run.parser["datalist"] = [with_changed_paths(item, placed) for item in items]
    if relative:
        expected = "absolute paths in a config's own list of cases, or a dataset_dir that they begin at"
        yield error_sentence("datalist", expected, repr(relative[0]), "give --dataset_dir FOLDER, or --datalist list.json")


def _tried(run: StartedRun, with_data: bool, training: bool) -> list[list[str]]:
    """Return the components to build for a trial, of those that need the data or of the others. The second list relies on the first."""
    of_training = ("train#trainer#loss_function", "teacher") if training else ()
    # a network or a loss that is null is refused by its trial
    there: list[list[str]] = [[name for name in ("network_def", "loss") if name in run.config]]
    there.append([name for name in of_training if run.parser.get(name) not in (None, "@loss")])
    return [[name for name in names if _needs(run, name, "data_dir", set()) == with_data] for names in there]


def _trains(declared: type[RunSettings]) -> bool:
    return not issubclass(declared, CheckpointSettings)


def _environment_problems(run: StartedRun, several_processes: bool) -> Iterator[str]:
    of_both = ("ckpt_path", "process_group_backend")
    evaluation, launched = (file_of(key, run.files) for key in of_both) if all(key in run.config for key in of_both) else (None, None)
    if evaluation is not None and launched is not None:
        # whichever comes last, its `initialize` does not suit the network or the handlers of the other
        fix = f"leave {launched} out, and start it without torchrun"
        yield error_sentence(evaluation, "one process, since it is not divided over several", launched, fix)
    elif several_processes and (absent := [name for name in _LAUNCHED if name not in os.environ]):
        got = f"one process ({', '.join(absent)} not set)"
        command = 'torchrun --standalone --nproc_per_node=2 -m monai.bundle run --config_file "[...]"'
        yield error_sentence("multi_gpu_train.yaml", "processes that torchrun has started", got, f"start it with {command}")
    if run.ids[1] not in run.parser:
        yield error_sentence("run_id", "an item of the config", shown(run.ids[1]), 'quote a list, as in --roi "[32,32,32]"')
    if find_spec("mlflow") is None and _is_tracked(run):
        yield error_sentence("--tracking", "a tracker that is installed", "mlflow, which is not", "pip install mlflow")


def _is_tracked(run: StartedRun) -> bool:
    return any(node["_target_"].endswith("MLFlowHandler") and _is_used(run, name, node) for name, node in components_in(run.config))


def _is_used(run: StartedRun, name: str, component: Mapping[str, Any]) -> bool:
    """Return whether a component is enabled, by a value or by an expression that can be computed now."""
    if not _is_computed(component.get("_disabled_")):
        return is_enabled(component)
    switch = f"{name}#_disabled_"
    with suppress(Exception):  # an error in the expression is reported when the component is built
        if not _needs(run, switch, "data_dir", set()):
            return not ConfigParser(deepcopy(run.config)).get_parsed_content(switch)
    return False


def _given_values(run: StartedRun, declared: type[RunSettings]) -> tuple[list[str], dict[str, Any]]:
    """Return problems and values of the settings that are no expressions, and put the values into the config."""
    config, problems, values = run.config, [], {}
    for name, value in run.overrides.items():
        if value is None:  # MONAI drops it
            run.parser[name] = None
    for name, word in as_typed(run.overrides, sys.argv[1:]).items():
        if name in declared.model_fields and is_text(declared.model_fields[name]):
            run.parser[name] = word
    if _trains(declared) and "validate#key_metric" in run.parser and run.parser.get("validate#key_metric") is None:
        problems.append(
            error_sentence("validate#key_metric", "a metric, since it chooses the weights to keep", "null", "give a metric")
        )
    for name in declared.model_fields:
        if name not in config or _is_computed(config[name]):
            continue
        try:
            values[name] = read_value(declared, name, config[name])
        except ValueError as error:
            problems.append(str(error))
    if not problems:
        for name, value in values.items():
            if value is not config[name]:
                run.parser[name] = value
    values["cases_listed"] = run.parser.get("datalist") != "@cases_found"
    return problems, values | dict(_arguments(run))


def _arguments(run: StartedRun) -> Iterator[tuple[str, Any]]:
    for name in _ARGUMENTS:
        value = run.parser.get(name)
        if value is not None and not _is_computed(value):
            yield name, value
    for name in _TABLES:
        if isinstance(run.config.get(name), Mapping):
            yield name, tuple(run.config[name])


def _is_computed(value: Any) -> bool:
    if isinstance(value, (Mapping, list)):
        parts = value.values() if isinstance(value, Mapping) else value
        return "_target_" in value or any(_is_computed(part) for part in parts)
    return isinstance(value, str) and value.startswith(("$", "@"))


def _computed(run: StartedRun, declared: type[RunSettings]) -> tuple[list[str], list[str]]:
    """Return the settings that are expressions: those that do not need the data, then the others."""
    names = [*declared.model_fields, *_ARGUMENTS]
    computed = [name for name in names if _is_computed(run.parser.get(name))]
    late = [name for name in computed if _needs(run, name, "data_dir", set())]
    return [name for name in computed if name not in late], late


def _needs(run: StartedRun, name: str, goal: str, seen: set[str]) -> bool:
    if name == goal:
        return True
    seen.add(name)
    found = run.parser.ref_resolver.find_refs_in_config(run.parser.get(name), name)
    return any(_needs(run, other, goal, seen) for other in found if other not in seen)


def _computed_values(run: StartedRun, declared: type[RunSettings], names: Iterable[str]) -> tuple[list[str], dict[str, Any]]:
    problems, values = [], {}
    for name in names:
        try:
            value = run.parser.get_parsed_content(name)
            values[name] = read_value(declared, name, value) if name in declared.model_fields else value
        except Exception as error:
            cause = innermost(error)
            if isinstance(error, ValueError):
                problems.append(str(error))
            else:
                got = f"{shown(run.parser.get(name))}, which fails with {type(cause).__name__}: {cause}"
                problems.append(error_sentence(name, "an expression that can be computed", got, "correct it"))
    return problems, values
