"""A tracked run says nothing to anyone but its tracker."""

from __future__ import annotations

import os

from monai.utils import optional_import


def without_usage_reports() -> None:
    """Keep MLflow from reporting its use to its makers over the network.

    MLflow 3.2 and later do so in each process that writes a run, unless `MLFLOW_DISABLE_TELEMETRY` is true. Here it becomes true where
    the user has not set it. MONAI has imported MLflow by now, and MLflow reads the variable when it makes its client. So it makes one
    anew.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    telemetry, found = optional_import("mlflow.telemetry")
    if found:
        telemetry.set_telemetry_client()
