"""The verb `bundle`: copies whose printed command can be pasted, whatever the folder is called."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import pytest
from monai.bundle import ConfigParser

from monai_jdt.cli import main
from monai_jdt.cli.bundle import shipped_bundles

BUNDLE = shipped_bundles()[0]


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(["bundle", *arguments])
    output = capsys.readouterr()
    return int(ended.value.code or 0), output.out, output.err


@pytest.mark.parametrize("name", ['O\'Brien "2" [x] *? $HOME `id`', "Ä b", "n" * 232, "-x", "a,b"])
def test_the_printed_command_names_the_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, _ = run(capsys, "copy", "--", BUNDLE, name)
    assert code == 0
    words = shlex.split(out.splitlines()[1])
    assert words[words.index("--bundle_root") + 1] == str(tmp_path / name)
    assert "epochs" in ConfigParser.load_config_files(words[words.index("--config_file") + 1])
    assert os.listdir(tmp_path) == [name]


def test_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert run(capsys, "copy", BUNDLE, "~/mine")[0] == 0
    assert (tmp_path / "mine" / "configs" / "train.yaml").is_file()


@pytest.mark.parametrize(
    ("name", "dest", "says"),
    [
        ("brats", "x", f"NAME: expected a bundle among {', '.join(shipped_bundles())}, got 'brats'. Fix: name brats_"),
        (BUNDLE, "a#b", "a#b: expected a path without #, which MONAI's bundles read as ::, got one with #. Fix: name another."),
        (BUNDLE, "mine", "mine: expected a free name or an empty folder, got something else. Fix: name another."),
        (BUNDLE, "mine/x/y", "y: expected a place in a folder, got one below a file ("),
    ],
)
def test_refusals_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, dest: str, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "x").touch()
    code, out, err = run(capsys, "copy", name, dest)
    assert (code, out, len(err.splitlines())) == (1, "", 1)
    assert says in err
    assert sorted(os.listdir(tmp_path)) == ["mine"]
