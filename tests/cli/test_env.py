"""`monai-jdt env` and `--version`: what a bug report needs."""

from __future__ import annotations

import platform
from importlib.metadata import version

import pytest

from monai_jdt import __version__
from monai_jdt.cli import main
from monai_jdt.cli.env import environment_report


def output_of(*arguments: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 0
    return capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert output_of("--version", capsys=capsys) == f"monai_jdt {__version__}\n"


def test_env_names_versions_and_kernels(capsys: pytest.CaptureFixture[str]) -> None:
    lines = output_of("env", capsys=capsys).splitlines()
    assert f"- monai_jdt: {__version__}" in lines
    assert f"- torch: {version('torch')}" in lines
    assert any(line.startswith(f"- Python: {platform.python_version()} ") for line in lines)
    assert "- kernel eager: can run" in lines
    assert {line.split(":")[0] for line in lines if line.startswith("- kernel")} == {
        f"- kernel {name}" for name in ("eager", "numpy", "chunked", "numba", "triton")
    }


def test_a_missing_package_and_a_set_variable_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monai_jdt.cli.env.PACKAGES", ("surely-no-such-package",))
    lines = environment_report({"OMP_NUM_THREADS": "3", "SECRET": "word"}).splitlines()
    assert "- surely-no-such-package: not installed" in lines
    assert lines[-1] == "- OMP_NUM_THREADS=3"
