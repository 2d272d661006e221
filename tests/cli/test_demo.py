"""The verb `demo`: the commands that it prints are those that it runs."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
from fire.parser import DefaultParseValue

from monai_jdt.cli import main


@pytest.mark.parametrize("name", ['O\'Brien [1] "a"', "-x", "~/b", "Ä b\\n"])
def test_printed_commands_can_be_pasted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    ran: list[list[str]] = []

    def remember(command: list[str], **_: dict[str, Any]) -> subprocess.CompletedProcess:
        ran.append(command[1:])
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(subprocess, "run", remember)
    with pytest.raises(SystemExit):
        main(["demo", "--", name])
    out = capsys.readouterr().out
    assert [shlex.split(line)[1:] for line in out.splitlines() if line.startswith("   python ")] == ran
    assert len(ran) == 3
    if "'" not in name:
        assert "'\"'\"'" not in out  # the shell's escape of a quote within quotes
    for command in ran:
        files = DefaultParseValue(command[command.index("--config_file") + 1])
        assert all(os.path.isfile(file) for file in ([files] if isinstance(files, str) else files))
