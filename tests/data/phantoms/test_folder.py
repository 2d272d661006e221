"""A folder of phantoms is there as a whole or not at all, whoever else makes it at the same time."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from monai_jdt.data import ensure_brats_phantoms, ensure_lidc_phantoms, ensure_qubiq_phantoms

MAKERS: dict[str, tuple[Callable[..., str], dict[str, Any], str]] = {
    "brats": (ensure_brats_phantoms, {"cases": 1, "shape": (12, 12, 12)}, "monai_jdt.data.phantoms.brats._write_case"),
    "qubiq": (ensure_qubiq_phantoms, {"cases": 1, "shape": (16, 16)}, "monai_jdt.data.phantoms.qubiq._write_qubiq_case"),
    "lidc": (ensure_lidc_phantoms, {"cases": 1, "shape": (40, 40, 12)}, "monai_jdt.data.phantoms.lidc._write_lidc_case"),
}


def digest(root: Path) -> dict[str, str]:
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", MAKERS)
def test_two_makers_at_once_get_one_whole_set(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Each waits until the other is ready to rename, so that both drafts are whole and one must lose. Two threads stand for two
    # processes: a draft's name is random, and what decides is the file system's rename.
    ensure, settings, _ = MAKERS[name]
    rename, both_ready, outputs = os.rename, threading.Barrier(2, timeout=60), []

    def wait(source: str, target: str) -> None:
        both_ready.wait()
        rename(source, target)

    alone = tmp_path / "alone"
    ensure(alone, **settings)
    monkeypatch.setattr(os, "rename", wait)
    makers = [threading.Thread(target=lambda: outputs.append(ensure(tmp_path / "set", **settings))) for _ in range(2)]
    for maker in makers:
        maker.start()
    for maker in makers:
        maker.join()
    assert outputs == [str(tmp_path / "set")] * 2
    assert sorted(os.listdir(tmp_path)) == ["alone", "set"]
    assert digest(tmp_path / "set") == digest(alone)


@pytest.mark.parametrize("name", MAKERS)
def test_a_failure_leaves_nothing(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ensure, settings, writer = MAKERS[name]

    def fail(*_: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(writer, fail)
    with pytest.raises(OSError, match="disk full"):
        ensure(tmp_path / "set", **settings)
    assert os.listdir(tmp_path) == []
