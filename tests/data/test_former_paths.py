"""Module paths that the documentation named before the rooms of `monai_jdt.data` were made still import."""

from __future__ import annotations

from importlib import import_module

import pytest

FORMER = {
    "grids": "grid_problem",
    "inspection": "find_problems",
    "label_values": "WHOLE_TOLERANCE",
    "mirrored": "turned_raters",
    "nifti": "open_nifti",
    "problems": "DataProblem",
    "regions": "REGION_CONVENTIONS",
    "volumes": "open_volume",
}


@pytest.mark.parametrize("module", FORMER)
def test_a_former_path_imports(module: str) -> None:
    assert hasattr(import_module(f"monai_jdt.data.{module}"), FORMER[module])
