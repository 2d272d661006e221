from __future__ import annotations

import os
import sys
from types import ModuleType

import pytest

from monai_jdt.bundle_runtime import start
from monai_jdt.bundle_runtime.declarations import RunSettings
from monai_jdt.bundle_runtime.tracking import without_usage_reports


@pytest.mark.parametrize(("set_before", "expected"), [(None, "true"), ("false", "false")])
def test_usage_reports_are_off_unless_the_user_wants_them(
    set_before: str | None, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "MLFLOW_DISABLE_TELEMETRY"
    monkeypatch.setenv(name, "")  # put back afterwards
    monkeypatch.delenv(name)
    if set_before is not None:
        monkeypatch.setenv(name, set_before)
    seen: list[str | None] = []
    mlflow, telemetry = ModuleType("mlflow"), ModuleType("mlflow.telemetry")
    vars(telemetry)["set_telemetry_client"] = lambda: seen.append(os.environ.get(name))
    vars(mlflow)["telemetry"] = telemetry
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    monkeypatch.setitem(sys.modules, "mlflow.telemetry", telemetry)
    without_usage_reports()
    assert seen == [expected]


def test_an_mlflow_without_reports_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "")
    monkeypatch.setitem(sys.modules, "mlflow.telemetry", None)
    without_usage_reports()
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == ""  # what the user has set stays


@pytest.mark.parametrize("tracked", [True, False])
def test_the_start_of_a_tracked_run_turns_them_off(tracked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    turned_off: list[bool] = []
    monkeypatch.setattr(start, "started_run", object)
    monkeypatch.setattr(start, "_stages", lambda *_: [[]])
    monkeypatch.setattr(start, "_is_tracked", lambda run: tracked)
    monkeypatch.setattr(start, "without_usage_reports", lambda: turned_off.append(True))
    start.check_run(RunSettings)
    assert turned_off == [True] * tracked
