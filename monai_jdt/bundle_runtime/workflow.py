"""Find the run that is about to start: its config as MONAI has read it, and the overrides that the user gave."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from monai.bundle import ConfigParser, ConfigWorkflow, create_workflow


@dataclass(frozen=True)
class StartedRun:
    """A run of a bundle before its first step.

    Args:
        parser: holds the merged config, and resolves its items.
        ids: the items that the run evaluates: those of `initialize`, `run` and `finalize`.
        files: the config files, in the order in which they were merged; if unknown, all of the bundle's.
        overrides: keys and values of the command line and of `--args_file`, None included; empty if unknown.
    """

    parser: ConfigParser
    ids: tuple[str, str, str] = ("initialize", "run", "finalize")
    files: tuple[str, ...] = ()
    overrides: Mapping[str, Any] = field(default_factory=dict)

    @property
    def config(self) -> dict[str, Any]:
        """The merged config, unresolved."""
        content = self.parser.get()
        return content if isinstance(content, dict) else {}


def started_run() -> StartedRun | None:
    """Find the run whose config calls this function.

    MONAI hands to a config's expression what the expression names, and nothing else: neither the config itself nor what the command
    line said. Both are found on the call stack: the workflow as the object whose method is being executed, and the command line as the
    arguments of :func:`monai.bundle.create_workflow`, by the names of its signature. A MONAI whose signature differs leaves the
    overrides unknown: then the merged config alone is checked.

    Returns:
        The run; None where no workflow is being executed, e.g. where a config is parsed to look at its network.
    """
    frame = inspect.currentframe()
    workflow: ConfigWorkflow | None = None
    while frame is not None:
        if workflow is None and isinstance(frame.f_locals.get("self"), ConfigWorkflow):
            workflow = frame.f_locals["self"]
        if workflow is not None and frame.f_code is create_workflow.__code__:
            given = _given_arguments(frame)
            if given is not None:
                return _with_overrides(workflow, given)
        frame = frame.f_back
    return None if workflow is None else StartedRun(workflow.parser, _ids(workflow), _files_beside(workflow))


def _ids(workflow: ConfigWorkflow) -> tuple[str, str, str]:
    return (workflow.init_id, workflow.run_id, workflow.final_id)


def _files_beside(workflow: ConfigWorkflow) -> tuple[str, ...]:
    return tuple(sorted(str(path) for path in workflow.config_root_path.iterdir() if path.suffix in (".yaml", ".yml")))


def _given_arguments(frame: FrameType) -> dict[str, Any] | None:
    """Return the arguments that `create_workflow` was called with, those of an `args_file` among them, or None without such names."""
    arguments = inspect.getargvalues(frame)
    if arguments.keywords is None or not {"config_file", "args_file"} <= set(arguments.args):
        return None
    given = {name: arguments.locals.get(name) for name in arguments.args} | arguments.locals.get(arguments.keywords, {})
    path = given.pop("args_file")
    from_file = ConfigParser.load_config_file(path) if isinstance(path, (str, os.PathLike)) else dict(path or {})
    # as MONAI does: None does not replace what the file gives
    return {**given, **from_file, **{name: value for name, value in given.items() if value is not None}}


def _with_overrides(workflow: ConfigWorkflow, given: Mapping[str, Any]) -> StartedRun:
    own = set(inspect.signature(ConfigWorkflow.__init__).parameters) | {"args_file", "workflow_name"}
    files = given.get("config_file") or ()
    if isinstance(files, (str, os.PathLike)):
        files = str(files)
        files = files.split(",") if "," in files and not os.path.isfile(files) else [files]
    overrides = {key: value for key, value in given.items() if key not in own}
    return StartedRun(workflow.parser, _ids(workflow), tuple(map(str, files)), overrides)


def file_of(key: str, files: Sequence[str]) -> str | None:
    """Return the last config file that has a key of the first level, by its name.

    Args:
        key: the key, or a path that begins with it.
        files: the config files.
    """
    for path in reversed(files):
        content = ConfigParser.load_config_file(path)
        if any(name.lstrip("+") == key or name.lstrip("+").startswith((f"{key}#", f"{key}::")) for name in content):
            return os.path.basename(path)
    return None
