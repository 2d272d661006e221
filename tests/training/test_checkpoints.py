import errno
import io
import os
import stat
from pathlib import Path
from typing import Any

import pytest
import torch

from monai_jdt.training import checkpoints
from monai_jdt.training.checkpoints import (
    TrainingCheckpoint,
    drop_useless_checkpoints,
    read_checkpoint,
    save_tensors,
    set_aside,
    write_checkpoint,
)


def checkpoint(epoch: int, epochs: int = 9, training_id: str = "") -> TrainingCheckpoint:
    states = {"network": {"weight": torch.full((64,), float(epoch))}, "optimizer": {"state": {0: {"step": torch.tensor(epoch)}}}}
    return TrainingCheckpoint(epoch, epochs, 10 * epoch, states, {"seed": "0"}, training_id)


def epoch_in(folder: Path) -> int:
    found = read_checkpoint(folder)
    assert found is not None
    assert float(found.states["network"]["weight"][5]) == found.epoch
    assert found.iteration == 10 * found.epoch
    return found.epoch


def test_the_last_two_are_kept(tmp_path: Path) -> None:
    assert read_checkpoint(tmp_path / "none") is None
    for epoch in (1, 2, 3):
        write_checkpoint(tmp_path / "models", checkpoint(epoch))
    assert sorted(os.listdir(tmp_path / "models")) == ["last.previous.pt", "last.pt"]
    assert epoch_in(tmp_path / "models") == 3
    (tmp_path / "models" / "last.pt").unlink()
    assert epoch_in(tmp_path / "models") == 2
    assert stat.S_IMODE((tmp_path / "models" / "last.previous.pt").stat().st_mode) & 0o044  # readable for others, as other files


def damages(path: Path) -> dict[str, bytes]:
    whole = path.read_bytes()
    middle = whole.index(torch.full((4,), 2.0).numpy().tobytes())
    return {
        "empty": b"",
        "short": whole[:20],
        "half": whole[: len(whole) // 2],
        "almost": whole[:-1],
        "changed": whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :],
        "another": b"no checkpoint",
    }


@pytest.mark.parametrize("damage", ["empty", "short", "half", "almost", "changed", "another"])
def test_a_damaged_one_is_logged_in_one_line_and_the_one_before_is_taken(
    damage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for epoch in (1, 2):
        write_checkpoint(tmp_path, checkpoint(epoch))
    (tmp_path / "last.pt").write_bytes(damages(tmp_path / "last.pt")[damage])
    assert epoch_in(tmp_path) == 1
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "last.pt is damaged" in record.getMessage()
    assert "after epoch 1" in record.getMessage()
    assert "\n" not in record.getMessage()


def test_two_damaged_ones_are_an_error_in_one_line(tmp_path: Path) -> None:
    for name in ("last.pt", "last.previous.pt"):
        (tmp_path / name).write_bytes(b"no checkpoint")
    with pytest.raises(ValueError, match=r"last\.pt: expected a checkpoint that can be read.* Fix: remove .*previous") as caught:
        read_checkpoint(tmp_path)
    assert "\n" not in str(caught.value)


class _Full:
    """A file on a disk with little room."""

    def __init__(self, file: Any, room: int) -> None:
        self.file, self.room = file, room

    def write(self, data: Any) -> int:
        self.room -= len(data)
        if self.room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self.file.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()


@pytest.mark.parametrize("room", [0, 100, 2000])
def test_a_full_disk_is_one_line_and_the_checkpoints_stay(room: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for epoch in (1, 2):
        write_checkpoint(tmp_path, checkpoint(epoch))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.setattr(checkpoints, "open", lambda path, mode: _Full(io.FileIO(path, mode), room), raising=False)
    with pytest.raises(OSError, match=r"last\.pt: expected .*, got No space left on device\. Fix: make room"):
        write_checkpoint(tmp_path, checkpoint(3))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before  # the draft, too, has gone


@pytest.mark.parametrize("step", ["fsync", "link", "replace"])
def test_a_kill_at_any_step_leaves_a_whole_checkpoint(step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for epoch in (1, 2):
        write_checkpoint(tmp_path, checkpoint(epoch))

    class Killed(BaseException):
        pass

    real, remove = getattr(os, step), os.remove
    for call in (1, 2, 3):  # `replace` is called for either name
        calls = iter(range(1, 9))

        def killed(*args: Any, call: int = call, calls: Any = calls) -> Any:
            if next(calls) == call:
                raise Killed
            return real(*args)

        monkeypatch.setattr(os, step, killed)
        # a killed process does not remove its draft
        monkeypatch.setattr(os, "remove", lambda path: None if path.endswith(".last.pt.draft") else remove(path))
        try:
            write_checkpoint(tmp_path, checkpoint(3))
        except Killed:
            assert epoch_in(tmp_path) in (2, 3)
        monkeypatch.undo()
        assert (tmp_path / "last.pt").exists()
    write_checkpoint(tmp_path, checkpoint(4))  # over what the killed ones have left
    assert epoch_in(tmp_path) == 4
    assert sorted(path.name for path in tmp_path.iterdir() if not path.name.endswith(".previous.pt.draft")) == [
        "last.previous.pt",
        "last.pt",
    ]


def test_what_could_not_be_read_is_not_written(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, checkpoint(1))
    bad = checkpoint(2)
    bad.states["lr_scheduler"] = {"schedule": torch.nn.Identity()}
    with pytest.raises(ValueError, match=r"expected tensors and plain values to write, got .*Identity"):
        write_checkpoint(tmp_path, bad)
    assert epoch_in(tmp_path) == 1


def test_without_hard_links_the_former_one_is_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", no_links)
    for epoch in (1, 2):
        write_checkpoint(tmp_path, checkpoint(epoch))
    assert sorted(os.listdir(tmp_path)) == ["last.previous.pt", "last.pt"]


def test_an_unfinished_training_is_set_aside_and_a_finished_one_is_not(tmp_path: Path) -> None:
    assert set_aside(tmp_path) is None
    for epoch in (8, 9):
        write_checkpoint(tmp_path, checkpoint(epoch, epochs=9))
    save_tensors(tmp_path / "model.pt", {"weight": torch.ones(1)})
    assert set_aside(tmp_path) is None
    assert sorted(os.listdir(tmp_path)) == ["last.finished.pt", "model.pt"]
    (tmp_path / "last.finished.pt").rename(tmp_path / "last.pt")
    assert epoch_in(tmp_path) == 9
    (tmp_path / "last.pt").unlink()
    for epoch in (3, 4):
        write_checkpoint(tmp_path, checkpoint(epoch))
    assert set_aside(tmp_path) == str(tmp_path / "earlier")
    assert os.listdir(tmp_path) == ["earlier"]
    assert sorted(os.listdir(tmp_path / "earlier")) == ["last.previous.pt", "last.pt", "model.pt"]
    assert epoch_in(tmp_path / "earlier") == 4


def test_a_damaged_training_does_not_go_on_as_the_finished_one_before_it(tmp_path: Path) -> None:
    for epoch in (8, 9):
        write_checkpoint(tmp_path, checkpoint(epoch, epochs=9))
    set_aside(tmp_path)
    assert read_checkpoint(tmp_path) is None  # killed in its first epoch: it begins again
    write_checkpoint(tmp_path, checkpoint(1, epochs=9))
    (tmp_path / "last.pt").write_bytes(b"")
    with pytest.raises(ValueError, match="expected a checkpoint that can be read"):
        read_checkpoint(tmp_path)


def test_a_training_does_not_go_on_as_the_one_that_was_set_aside_before_it(tmp_path: Path) -> None:
    for epoch in (3, 4):
        write_checkpoint(tmp_path, checkpoint(epoch, training_id="first"))
    set_aside(tmp_path)
    write_checkpoint(tmp_path, checkpoint(1, training_id="second"))  # which has no epoch before its first
    set_aside(tmp_path)
    assert os.listdir(tmp_path / "earlier") == ["last.pt"]
    (tmp_path / "earlier" / "last.pt").write_bytes(b"")
    with pytest.raises(ValueError, match="expected a checkpoint that can be read"):
        read_checkpoint(tmp_path / "earlier")


def test_a_kill_while_a_training_is_set_aside_loses_neither_checkpoint(tmp_path: Path) -> None:
    for epoch in (3, 4):
        write_checkpoint(tmp_path, checkpoint(epoch, training_id="own"))
    (tmp_path / "earlier").mkdir()
    (tmp_path / "last.previous.pt").rename(tmp_path / "earlier" / "last.previous.pt")  # and then it was killed
    set_aside(tmp_path)
    assert sorted(os.listdir(tmp_path / "earlier")) == ["last.previous.pt", "last.pt"]


def test_what_a_training_must_not_go_on_from_is_removed(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, checkpoint(7, training_id="other"))
    (tmp_path / "last.pt").rename(tmp_path / "last.previous.pt")
    save_tensors(tmp_path / "last.pt", {"format": 1, **vars(checkpoint(1, training_id="own"))})
    drop_useless_checkpoints(tmp_path, "own")
    assert os.listdir(tmp_path) == ["last.pt"]
    write_checkpoint(tmp_path, checkpoint(2, training_id="own"))
    drop_useless_checkpoints(tmp_path, "own")
    assert sorted(os.listdir(tmp_path)) == ["last.previous.pt", "last.pt"]
    # a damaged one would replace the whole one before it
    (tmp_path / "last.pt").write_bytes(b"")
    drop_useless_checkpoints(tmp_path, "own")
    assert os.listdir(tmp_path) == ["last.previous.pt"]
    write_checkpoint(tmp_path, checkpoint(2, training_id="own"))
    assert sorted(os.listdir(tmp_path)) == ["last.previous.pt", "last.pt"]
    drop_useless_checkpoints(tmp_path / "none", "own")


def test_a_checkpoint_that_cannot_be_read_now_is_not_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk of the network that fails for a moment does not make a file damaged."""
    (tmp_path / "last.pt").write_bytes(b"whole")

    def failing(path: str) -> None:
        raise OSError(5, "Input/output error", path)

    monkeypatch.setattr(checkpoints, "_checkpoint_at", failing)
    checkpoints.drop_useless_checkpoints(tmp_path, "id")
    assert (tmp_path / "last.pt").read_bytes() == b"whole"
