"""One run at a time in a folder: a second one is refused, and what a killed one leaves holds nobody up."""

from __future__ import annotations

import errno
import fcntl
import logging
import multiprocessing
import os
import socket
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from monai_jdt.data.files.folder_lock import LOCK_NAME, sole_run_in


def hold(folder: Path, held: Any) -> None:
    with sole_run_in(folder):
        held.set()
        time.sleep(100)


def test_a_second_run_is_refused_by_name(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "out"
    owner = f"process {os.getpid()} of {socket.gethostname()}"
    line = (
        f"{folder}: expected a folder that no other run writes to, got one that {owner} writes to. "
        "Fix: wait until that run has ended, or name another folder."
    )
    with sole_run_in(folder), pytest.raises(BlockingIOError) as refused, sole_run_in(folder):
        pass
    assert str(refused.value) == line
    assert list(folder.iterdir()) == []
    with sole_run_in(folder), sole_run_in(tmp_path):
        assert (folder / LOCK_NAME).read_text() == owner


def test_a_run_that_fails_frees_the_folder(tmp_path: Path) -> None:
    with pytest.raises(KeyError), sole_run_in(tmp_path):
        raise KeyError
    with sole_run_in(tmp_path):
        pass


def test_the_lock_of_a_killed_process_holds_nobody_up(tmp_path: Path) -> None:
    # a fork needs no import of torch, which takes seconds
    context = multiprocessing.get_context("fork")
    held = context.Event()
    process = context.Process(target=hold, args=(tmp_path, held))
    process.start()
    try:
        assert held.wait(60)
        with pytest.raises(BlockingIOError, match=f"one that process {process.pid} of "), sole_run_in(tmp_path):
            pass
    finally:
        process.kill()
        process.join()
    assert (tmp_path / LOCK_NAME).exists()
    with sole_run_in(tmp_path):
        pass
    assert not (tmp_path / LOCK_NAME).exists()


def test_a_lock_file_that_was_removed_meanwhile_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The holder removes the file between another run's opening and locking it: the third run would not see that lock."""
    path = tmp_path / LOCK_NAME
    locked = fcntl.flock

    def lock(descriptor: int, how: int) -> None:
        monkeypatch.setattr(fcntl, "flock", locked)
        path.unlink()
        locked(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", lock)
    with sole_run_in(tmp_path), pytest.raises(BlockingIOError), sole_run_in(tmp_path):
        pass


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def refuse(descriptor: int, how: int) -> None:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with caplog.at_level(logging.WARNING), sole_run_in(tmp_path):
        pass
    assert "knows no locks" in caplog.text


def test_a_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setitem(sys.modules, "fcntl", None)  # as on Windows
    with caplog.at_level(logging.WARNING), sole_run_in(tmp_path / "out"):
        assert os.listdir(tmp_path / "out") == []
    assert "this system has no file locks" in caplog.text


def test_a_place_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    says = r"file/out: expected a folder that can be written to, got Not a directory\. Fix: "
    with pytest.raises(OSError, match=says), sole_run_in(tmp_path / "file" / "out"):
        pass
