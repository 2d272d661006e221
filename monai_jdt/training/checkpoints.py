"""The state of a training after its last complete epoch, as a file that is there as a whole whenever the training is killed."""

from __future__ import annotations

import errno
import logging
import os
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch

from monai_jdt.validation import error_sentence

logger = logging.getLogger(__name__)

#: The checkpoint of the last complete epoch, and the one before it.
LAST, PREVIOUS = "last.pt", "last.previous.pt"

#: The last checkpoint of a finished training, when another one has begun in its place. No training goes on from this name.
_FINISHED = "last.finished.pt"

#: Of the form in which a checkpoint is written.
_FORMAT = 1

#: The folder of a training that another one, begun in its place, has set aside.
SET_ASIDE = "earlier"


@dataclass
class TrainingCheckpoint:
    """What goes on when a training goes on.

    Args:
        epoch: complete epochs.
        epochs: how many the training was to have.
        iteration: steps in them.
        states: the state dicts of network, optimizer and so on, by name.
        settings: what must be the same when the training goes on, each as text.
        training_id: of the training, the same in all of its checkpoints; empty: none was given.
    """

    epoch: int
    epochs: int
    iteration: int
    states: dict[str, Any]
    settings: dict[str, str]
    training_id: str = ""


def write_checkpoint(folder: str | os.PathLike[str], checkpoint: TrainingCheckpoint) -> str:
    """Write `last.pt`, and keep the former one as `last.previous.pt`.

    At every moment one of the two is whole, and neither is removed before the new one is on the disk.

    Args:
        folder: is made.
        checkpoint: its states are tensors and plain values.

    Returns:
        The path of the file.

    Raises:
        ValueError: a state that `torch.load(weights_only=True)` would not read.
        OSError: the folder cannot be written to, or the disk is full. The files are as they were.
    """
    folder = os.fspath(folder)
    path, previous = os.path.join(folder, LAST), os.path.join(folder, PREVIOUS)
    save_tensors(path, {"format": _FORMAT, **vars(checkpoint)}, keep_as=previous)
    return path


def save_tensors(path: str | os.PathLike[str], content: Mapping[str, Any], keep_as: str | None = None) -> None:
    """Write tensors and plain values for `torch.load(weights_only=True)`: the file is replaced as a whole, once it is on the disk.

    The draft has a fixed name beside the file, so that one that a killed process leaves is overwritten by the next.

    Args:
        path: the file; folders are made.
        content: e.g. a state dict.
        keep_as: the name that a file at `path` gets, in place of one of that name.

    Raises:
        ValueError: a value of a type that would not be read.
        OSError: the folder cannot be written to, or the disk is full. The files are as they were.
    """
    path = os.fspath(path)
    draft = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.draft")
    try:
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        with open(draft, "wb") as file:
            _write_tensors(content, file)
            file.flush()
            os.fsync(file.fileno())
        unsafe = torch.serialization.get_unsafe_globals_in_checkpoint(draft)
        if unsafe:
            fix = "give the optimizer and the scheduler plain arguments"
            raise ValueError(error_sentence(path, "tensors and plain values to write", ", ".join(sorted(unsafe)), fix))
        if keep_as is not None and os.path.exists(path):
            _keep_under_name(path, keep_as)
        os.replace(draft, path)
        _sync_folder(os.path.dirname(path) or ".")
    except OSError as error:
        fix = "make room" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "make the folder writable"
        fix += "; what was there is as it was, and a bundle goes on from it with --resume true"
        got = str(error.strerror or error)
        raise type(error)(error_sentence(path, "a place that can be written to", got, fix)) from error
    finally:
        with suppress(OSError):
            os.remove(draft)


def _write_tensors(content: Mapping[str, Any], file: Any) -> None:
    try:
        torch.save(content, file)
    except RuntimeError as error:
        # of a file that could not be written to, torch says "unexpected pos 64 vs 0"
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise


def _keep_under_name(path: str, name: str) -> None:
    """Give a file a second name, so that the first one is never missing. Some file systems can only rename."""
    linked = f"{name}.draft"
    try:
        with suppress(FileNotFoundError):
            os.remove(linked)
        os.link(path, linked)
        os.replace(linked, name)
    except OSError:
        os.replace(path, name)


def _sync_folder(folder: str) -> None:
    """Put the new name on the disk, too. Not every system can open a folder."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def read_checkpoint(folder: str | os.PathLike[str]) -> TrainingCheckpoint | None:
    """Return the checkpoint of the last complete epoch, or the one before if the file is damaged, which the log says.

    Args:
        folder: where :func:`write_checkpoint` wrote.

    Returns:
        The checkpoint with its tensors on the CPU; None where no epoch was completed.

    Raises:
        ValueError: there are checkpoints, and none can be read.
    """
    paths = [os.path.join(os.fspath(folder), name) for name in (LAST, PREVIOUS)]
    damaged: dict[str, str] = {}
    for path in (path for path in paths if os.path.exists(path)):
        try:
            found = _checkpoint_at(path)
        except Exception as error:
            damaged[path] = " ".join(f"{type(error).__name__}: {error}".split())[:120]
            continue
        if damaged:
            (first, reason), *_ = damaged.items()
            logger.warning("%s is damaged (%s); the training goes on from %s, after epoch %d", first, reason, path, found.epoch)
        return found
    if not damaged:
        return None
    fix = f"remove {' and '.join(damaged)} and start again"
    path, reason = next(iter(damaged.items()))
    raise ValueError(error_sentence(path, "a checkpoint that can be read, or one before it", reason, fix))


def _checkpoint_at(path: str) -> TrainingCheckpoint:
    with zipfile.ZipFile(path) as archive:
        # torch.load does not compare checksums: a damaged file would go on as a damaged network
        broken = archive.testzip()
    if broken is not None:
        raise ValueError(f"the part {broken} is damaged")
    content = torch.load(path, map_location="cpu", weights_only=True)
    form = content.pop("format", None)
    if form != _FORMAT:
        raise ValueError(f"a checkpoint of the form {form!r}, not {_FORMAT}")
    return TrainingCheckpoint(**content)


def drop_useless_checkpoints(folder: str | os.PathLike[str], training_id: str) -> None:
    """Remove what a training must not go on from: a damaged file, and a `last.previous.pt` of another training.

    For a training that goes on. Its next checkpoint would replace either of them. Until then a damaged `last.pt` is a risk: it would be
    kept in the place of the whole one before it, and a kill at that moment would leave nothing to go on from.

    Args:
        folder: of its checkpoints.
        training_id: of the training.
    """
    for name in (LAST, PREVIOUS):
        path = os.path.join(os.fspath(folder), name)
        try:
            is_useful = _checkpoint_at(path).training_id == training_id or name == LAST
        except (OSError, MemoryError):
            # not there, or not readable now, which does not mean that it is damaged
            continue
        except Exception:
            is_useful = False
        if not is_useful:
            os.remove(path)
            logger.info("%s is removed: it is damaged, or of another training", path)


def set_aside(folder: str | os.PathLike[str]) -> str | None:
    """Move a training out of the way of one that begins in its place, which must not go on from the former one's checkpoints.

    Of a finished training the weights stay, until others replace them, and its last checkpoint becomes `last.finished.pt`.

    Args:
        folder: of its checkpoints.

    Returns:
        The folder `earlier`, which now holds its checkpoints and weights, and from which it can go on; None if there is no unfinished
        training.
    """
    folder = os.fspath(folder)
    try:
        found = read_checkpoint(folder)
    except ValueError:
        return None  # of no use to anybody
    if found is None:
        return None
    if found.epoch >= found.epochs:
        for name in (PREVIOUS, LAST):
            with suppress(FileNotFoundError):
                os.replace(os.path.join(folder, name), os.path.join(folder, _FINISHED))
        return None
    target = os.path.join(folder, SET_ASIDE)
    os.makedirs(target, exist_ok=True)
    # of the training that was set aside before this one
    drop_useless_checkpoints(target, found.training_id)
    # last.pt comes last: as long as it is there, the next attempt moves the rest
    for name in ("model.json", "model.pt", PREVIOUS, LAST):
        with suppress(FileNotFoundError):
            os.replace(os.path.join(folder, name), os.path.join(target, name))
    return target
