"""Empty files, for listers: they look at names and open nothing."""

from __future__ import annotations

from pathlib import Path


def touch_files(root: Path, *names: str) -> None:
    """Make empty files below a folder, and the folders that they need."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
