from __future__ import annotations

import runpy
from pathlib import Path

import pytest
import torch

import monai_jdt
from monai_jdt import plain_tensors


def test_the_oldest_pytorch_takes_a_compilation_for_an_export(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.compiler, "is_exporting", raising=False)
    assert runpy.run_path(plain_tensors.__file__)["is_exporting"] is torch.compiler.is_compiling


def test_no_other_file_asks_pytorch_for_exports() -> None:
    asking = [path.name for path in Path(monai_jdt.__file__).parent.rglob("*.py") if "compiler.is_exporting" in path.read_text("utf-8")]
    assert asking == []
