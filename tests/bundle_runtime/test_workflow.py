"""The run is found on the call stack, by what MONAI's functions are called with and not by how they are written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from monai.bundle import ConfigWorkflow, create_workflow

from monai_jdt.bundle_runtime import workflow as own
from monai_jdt.bundle_runtime.workflow import StartedRun, started_run

SEEN: list[StartedRun | None] = []


def look() -> None:
    SEEN.append(started_run())


@pytest.fixture
def config(tmp_path: Path) -> str:
    (tmp_path / "train.yaml").write_text(f"imports: [$import {__name__} as seen]\ninitialize: [$seen.look()]\nrun: []\nepochs: 1\n")
    (tmp_path / "more.yaml").write_text("epochs: 2\n")
    SEEN.clear()
    return str(tmp_path / "train.yaml")


def test_overrides_and_files_are_those_of_the_call(config: str, tmp_path: Path) -> None:
    (tmp_path / "args.yaml").write_text("epochs: 3\nseed: 4\n")
    more = str(tmp_path / "more.yaml")
    create_workflow(config_file=[config, more], args_file=str(tmp_path / "args.yaml"), logging_file=False, epochs=5, size=None)
    (run,) = SEEN
    assert run is not None
    assert run.files == (config, more)
    assert run.overrides == {"epochs": 5, "seed": 4, "size": None}
    assert run.config["epochs"] == 5


def test_a_workflow_that_is_started_by_itself_has_the_files_of_its_folder(config: str) -> None:
    ConfigWorkflow(config_file=config, logging_file=False, epochs=5).initialize()
    (run,) = SEEN
    assert run is not None
    assert [Path(path).name for path in run.files] == ["more.yaml", "train.yaml"]
    assert run.overrides == {}
    assert run.config["epochs"] == 5


def test_a_create_workflow_of_another_signature_is_survived(config: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def other(*, settings: dict[str, Any]) -> None:
        ConfigWorkflow(**settings).initialize()

    monkeypatch.setattr(own, "create_workflow", other)
    other(settings={"config_file": config, "logging_file": False, "epochs": 5})
    (run,) = SEEN
    assert run is not None
    assert run.config["epochs"] == 5
    assert run.overrides == {}


def test_without_a_workflow_there_is_no_run() -> None:
    assert started_run() is None
