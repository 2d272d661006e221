"""A tracked run sends no telemetry."""

from __future__ import annotations

import os

from monai.utils import optional_import


def without_usage_reports() -> None:
    """Turn MLflow's telemetry off.

    MLflow 3.2 and later send it from each process that writes a run, unless `MLFLOW_DISABLE_TELEMETRY` is true. Here it becomes true
    where the user has not set it. MONAI has imported MLflow by now, and MLflow reads the variable when it makes its client. So it makes
    one anew.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    telemetry, found = optional_import("mlflow.telemetry")
    make_client = getattr(telemetry, "set_telemetry_client", None) if found else None
    if make_client is not None:
        make_client()
