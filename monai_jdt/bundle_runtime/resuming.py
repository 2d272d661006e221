"""Which training goes on, and whether it is still the same one."""

from __future__ import annotations

import json
import logging
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from monai_jdt.bundle_runtime.values import shown
from monai_jdt.bundle_runtime.workflow import started_run
from monai_jdt.training.checkpoints import LAST, TrainingCheckpoint, read_checkpoint
from monai_jdt.training.draws import ranks_here
from monai_jdt.validation import error_sentence

logger = logging.getLogger(__name__)

#: Keys that may differ when a training goes on: where things are and what is shown, what is validated and how, and what is compared
#: by its result (the cases).
_MAY_CHANGE = {
    *("imports", "initialize", "run", "finalize", "check_data", "save_execute_config", "tracking_uri", "experiment_name", "run_name"),
    *("bundle_root", "dataset_dir", "data_dir", "output_dir", "ckpt_dir", "trained_settings", "tensorboard"),
    *("datalist", "datalist_file", "datalist_section", "cases_found", "split", "split_by", "fold", "folds", "val_fraction"),
    *("epochs", "val_interval", "validate", "decision", "empty_below", "temperature", "all_validated", "two_lists"),
    *("resume", "resumed_from", "settings_to_resume", "training_id"),
    *("num_workers", "device", "is_cuda", "rank", "process_group_backend", "show_progress", "figure_case", "figure_channel"),
    # a wrapper of `network_def`; mixed precision is compared by its value
    *("network", "amp"),
}
_MAY_CHANGE_IN_TRAIN = {"handlers", "states"}

# Stands for a key that one of the two does not have.
_ABSENT = "nothing"


def settings_to_resume(
    split: Sequence[Sequence[Mapping[str, Any]]], amp: bool, two_lists: Sequence[Sequence[Mapping[str, Any]]] | None = None
) -> dict[str, str]:
    """Return what must be the same when a training goes on: every key of the run's config that bears on its steps, each as JSON.

    The cases are compared by their names, so that a data set may move to another folder.

    Args:
        split: the cases that are trained on, and those that are validated.
        amp: whether mixed precision is used.
        two_lists: the cases that are trained on with a label, and those without, from
            :func:`monai_jdt.bundle_runtime.labelled_cases`; None: all have one.
    """
    run = started_run()
    config = {} if run is None else run.config
    held: dict[str, Any] = {key: value for key, value in config.items() if key not in _MAY_CHANGE and not key.startswith("_")}
    if isinstance(held.get("train"), Mapping):
        held["train"] = {key: value for key, value in held["train"].items() if key not in _MAY_CHANGE_IN_TRAIN}
    names = ("training cases", "validation cases") + (() if two_lists is None else ("cases with a label", "cases without a label"))
    for side, cases in zip(names, (*split, *(two_lists or ())), strict=True):
        held[side] = [str(item["case"]) for item in cases]
    held |= {"amp": bool(amp), "processes": ranks_here()[1]}
    return {key: json.dumps(value, sort_keys=True, default=repr) for key, value in held.items()}


def checkpoint_to_resume(folder: str, settings: Mapping[str, str], epochs: int) -> TrainingCheckpoint | None:
    """Return the checkpoint from which a training goes on.

    Args:
        folder: of the checkpoints.
        settings: those of this run, from :func:`settings_to_resume`.
        epochs: how many epochs this run is to have.

    Returns:
        The checkpoint; None where no epoch was completed, which the log says.

    Raises:
        ValueError: no checkpoint can be read; it is one of another training, or of more epochs.
    """
    folder = os.path.expanduser(folder)
    found = read_checkpoint(folder)
    if found is None:
        logger.info("%s holds no checkpoint: the training starts with its first epoch", folder)
        return None
    different = list(_changed_settings(found.settings, settings))
    if different:
        name, old, new = different[0]
        expected = f"{shown(old)}, as in the training of {os.path.join(folder, LAST)}, since resume is true"
        got = shown(new) + (f" (and {', '.join(name for name, *_ in different[1:])} not as before)" if different[1:] else "")
        raise ValueError(error_sentence(name, expected, got, "give what it was, or begin another training with another ckpt_dir"))
    if epochs < found.epoch:
        fix = f"--epochs {max(found.epoch, found.epochs)}"
        raise ValueError(error_sentence("epochs", f"at least {found.epoch}", f"{epochs}, and {found.epoch} are done", fix))
    if epochs != found.epochs:
        logger.warning(
            "the training was to have %d epochs and now has %d: from epoch %d on, its learning rate is that of a training of %d epochs",
            *(found.epochs, epochs, found.epoch + 1, epochs),
        )
    return found


def id_of_training(resumed: TrainingCheckpoint | None) -> str:
    """Return the id that a training keeps from its start to its end, however often it goes on.

    Args:
        resumed: what it goes on from; None: it begins, and gets an id that no other has.
    """
    return uuid.uuid4().hex if resumed is None else resumed.training_id


def _changed_settings(before: Mapping[str, str], now: Mapping[str, str]) -> Iterator[tuple[str, Any, Any]]:
    """Yield the id of each setting that differs, what it was and what it is."""
    for key in dict.fromkeys((*before, *now)):
        if before.get(key) != now.get(key):
            old, new = (json.loads(held[key]) if key in held else _ABSENT for held in (before, now))
            yield _first_difference(key, old, new)


def _first_difference(name: str, old: Any, new: Any) -> tuple[str, Any, Any]:
    """Return the id and the two values of the first part that differs."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in dict.fromkeys((*old, *new)):
            if old.get(key, _ABSENT) != new.get(key, _ABSENT):
                return _first_difference(f"{name}#{key}", old.get(key, _ABSENT), new.get(key, _ABSENT))
    if isinstance(old, list) and isinstance(new, list):
        if len(old) != len(new):
            return name, len(old), len(new)
        for number, (first, second) in enumerate(zip(old, new, strict=True)):
            if first != second:
                return _first_difference(f"{name}#{number}", first, second)
    return name, old, new
