"""The run that is about to start: its config as MONAI has read it, and what the user gave beside the files."""

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
        files: the config files, in the order in which they were laid over each other; where MONAI does not tell them, those of the
            bundle.
        overrides: keys and values of the command line and of `--args_file`, None included; empty if unknown.
    """

    parser: ConfigParser
    ids: tuple[str, str, str] = ("initialize", "run", "finalize")
    files: tuple[str, ...] = ()
    overrides: Mapping[str, Any] = field(default_factory=dict)

    @property
    def config(self) -> dict[str, Any]:
        """The merged config, nothing resolved."""
        content = self.parser.get()
        return content if isinstance(content, dict) else {}


def started_run() -> StartedRun | None:
    """Find the run whose config calls this function.

    MONAI hands to a config's expression what the expression names, and nothing else: neither the config itself nor what the command
    line said. Both stand in the frames of the functions that are being executed, so they are read there.

    Returns:
        The run; None where no workflow is being executed, e.g. where a config is parsed to look at its network.
    """
    frame = inspect.currentframe()
    workflow: ConfigWorkflow | None = None
    while frame is not None:
        here = frame.f_locals
        if workflow is None and isinstance(here.get("self"), ConfigWorkflow):
            workflow = here["self"]
        if workflow is not None and frame.f_code is create_workflow.__code__:
            return _with_overrides(workflow, frame)
        frame = frame.f_back
    if workflow is None:
        return None
    files = sorted(str(path) for path in workflow.config_root_path.iterdir() if path.suffix in (".yaml", ".yml"))
    return StartedRun(workflow.parser, _ids(workflow), tuple(files))


def _ids(workflow: ConfigWorkflow) -> tuple[str, str, str]:
    return (workflow.init_id, workflow.run_id, workflow.final_id)


def _with_overrides(workflow: ConfigWorkflow, frame: FrameType) -> StartedRun:
    here = frame.f_locals
    # MONAI drops what is given as None; its own arguments among them are not given
    own = set(inspect.signature(ConfigWorkflow.__init__).parameters) | {"args_file", "workflow_name"}
    given = {**here.get("_args", {}), **{key: None for key, value in here.get("kwargs", {}).items() if value is None}}
    files = here.get("config_file") or ()
    if isinstance(files, str):
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
