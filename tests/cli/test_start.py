"""How the command line starts: without the packages that a verb does not need. `import monai_jdt` elsewhere loads all parts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import monai_jdt
from monai_jdt.cli import app
from monai_jdt.data.phantoms.brats import write_brats_phantoms

ROOT = Path(__file__).resolve().parent.parent.parent

#: Packages that take 0.1 s to 4 s of processor time.
HEAVY = {"torch", "monai", "ignite", "scipy", "matplotlib", "plotly", "jinja2", "joblib", "nibabel", "SimpleITK", "itk", "tensorboard"}

#: The console script that pip writes, then the packages that its command lines have loaded. One process runs them all.
SCRIPT = """
import sys
from monai_jdt.cli import main
for line in sys.stdin.read().splitlines():
    try:
        main(line.split("|"))
    except SystemExit as end:
        assert end.code == 0, line
    print("loaded", *sorted(set(sys.modules) & {heavy!r}), file=sys.stderr)
"""


def loaded_by(*lines: str, folder: Path) -> list[set[str]]:
    """Run command lines as `monai-jdt`, in order, and return the heavy packages that are loaded after each."""
    script = folder / "monai-jdt"
    script.write_text(SCRIPT.format(heavy=HEAVY))
    done = subprocess.run([sys.executable, script], input="\n".join(lines), capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return [set(line.split()[1:]) for line in done.stderr.splitlines() if line.startswith("loaded")]


def test_help_and_version_load_neither_torch_nor_monai(tmp_path: Path) -> None:
    verbs = [command.name or "" for command in app.registered_commands] + [group.name or "" for group in app.registered_groups]
    lines = ["--version", "--help", *(f"{verb}|--help" for verb in verbs), "bundle|copy|--help", "bundle|list"]
    assert loaded_by(*lines, folder=tmp_path) == [set()] * len(lines)


def test_lists_are_written_and_checked_without_torch(tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_brats_phantoms(str(data), cases=1, shape=(16, 16, 16), progress=False)
    lines = [f"datalist|brats2021|{data}|--write|{tmp_path}/list.json", f"check|{tmp_path}/list.json"]
    listed, checked = loaded_by(*lines, folder=tmp_path)
    assert listed == set()
    assert "nibabel" in checked  # what was loaded is seen
    assert not checked & {"torch", "monai", "joblib", "matplotlib"}


def test_python_m_starts_without_torch() -> None:
    command = [sys.executable, "-X", "importtime", "-m", "monai_jdt", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == f"monai_jdt {monai_jdt.__version__}\n"
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "monai_jdt.cli" in loaded
    assert not loaded & HEAVY


@pytest.mark.parametrize(
    ("program", "started", "expected"),
    [
        ("/usr/bin/monai-jdt", ["python", "/usr/bin/monai-jdt", "check"], True),
        ("-m", ["python", "-X", "importtime", "-m", "monai_jdt", "check"], True),
        # packages of other people, whose bundles may use short names
        ("-m", ["python", "-m", "trainer"], False),
        ("-m", ["python", "-m", "monai_jdt_trainer"], False),
        ("-m", ["python", "-m", "trainer", "-m", "monai_jdt"], False),
        ("-m", ["python", "-m"], False),
        ("train.py", ["python", "train.py", "-m", "monai_jdt"], False),
        ("", ["python"], False),
    ],
)
def test_only_the_command_line_starts_light(monkeypatch: pytest.MonkeyPatch, program: str, started: list[str], expected: bool) -> None:
    monkeypatch.setattr(sys, "argv", [program])
    monkeypatch.setattr(sys, "orig_argv", started)
    assert monai_jdt._is_command_line() is expected


def test_a_process_without_arguments_is_not_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(sys, "argv")  # Python embedded in another program
    assert not monai_jdt._is_command_line()


def test_parts_load_at_their_first_use_on_the_command_line() -> None:
    for name in monai_jdt.__all__:
        assert monai_jdt.__getattr__(name) is getattr(monai_jdt, name)
    with pytest.raises(AttributeError, match="module 'monai_jdt' has no attribute 'lossse'"):
        monai_jdt.__getattr__("lossse")


def test_a_terminal_of_few_letters_shows_what_it_can() -> None:
    command = [sys.executable, "-X", "utf8=0", "-m", "monai_jdt", "check", "--help"]
    done = subprocess.run(command, capture_output=True, cwd=ROOT, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0, done.stderr
    assert b"datalist" in done.stdout.lower()
