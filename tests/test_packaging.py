"""What a wheel holds."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_the_wheel_holds_every_module_and_bundle_file(tmp_path: Path) -> None:
    tracked = subprocess.run(["git", "ls-files", "monai_jdt", "bundles"], cwd=ROOT, capture_output=True, text=True, check=True)
    sources = [Path(line) for line in tracked.stdout.splitlines()]
    copy = tmp_path / "source"
    for name in [*sources, Path("setup.cfg"), Path("pyproject.toml"), Path("README.md"), Path("LICENSE")]:
        if (ROOT / name).exists():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes((ROOT / name).read_bytes())
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", tmp_path, copy],
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    held = set(zipfile.ZipFile(wheel).namelist())
    expected = {str(path) for path in sources if path.parts[0] == "monai_jdt" and (ROOT / path).exists()}
    expected |= {f"monai_jdt/{path}" for path in sources if path.parts[0] == "bundles" and (ROOT / path).exists()}
    assert expected - held == set()
    outside = {name for name in held if not name.startswith(("monai_jdt/", "monai_jdt-"))}
    assert outside == set()
