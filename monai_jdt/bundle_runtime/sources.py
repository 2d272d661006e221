"""What a run needs at its start: the folder of the data, files that must exist, a case to draw, a case for each process."""

from __future__ import annotations

import difflib
import json
import logging
import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from monai_jdt.bundle_runtime.exits import exit_on_error, exit_with_error
from monai_jdt.data.problems import DataProblem, DataProblemError
from monai_jdt.validation import error_sentence

logger = logging.getLogger(__name__)

# What one core trains of the QUBIQ bundle's network: 6 epochs of 16 photographs of 128 x 128 took 15 s of processor time.
_VOXELS_PER_SECOND = 1e5


def data_folder(
    dataset_dir: str | None,
    default_dir: str,
    make_phantoms: Callable[..., str],
    *,
    datalist_file: str | None = None,
    **phantom_settings: Any,
) -> str:
    """Return the folder of the data: the user's, or phantoms that are made on first use. `~` is expanded in each path.

    Args:
        dataset_dir: the user's folder; None takes phantoms. A named folder that is absent or empty is an error. Phantoms never
            replace it.
        default_dir: where the phantoms lie or will lie.
        datalist_file: a data list in place of `dataset_dir`; the folder is the one that it lies in.
        make_phantoms: makes them unless they exist, e.g. :func:`monai_jdt.data.ensure_brats_phantoms`.
        phantom_settings: its keyword arguments.

    Returns:
        The absolute path of the folder.

    Raises:
        SystemExit: with code 1, after one line, if the folder cannot be used.
    """
    if datalist_file is not None:
        if dataset_dir is not None:
            problem = DataProblem("datalist_file", "null with a dataset_dir", datalist_file, "give one of the two")
            exit_with_error(str(problem))
        return os.path.dirname(os.path.abspath(os.path.expanduser(datalist_file)))
    if dataset_dir is not None:
        folder = os.path.abspath(os.path.expanduser(os.fspath(dataset_dir)))
        if not os.path.isdir(folder):
            got = "a file" if os.path.exists(folder) else "nothing at that path"
            # MONAI replaces # by :: in every text of a config
            fix = "rename the folder: a config cannot hold the letter #" if "::" in folder else "name the data set's folder"
            problem = DataProblem(f"dataset_dir {folder}", "a folder with images", got, fix)
            exit_with_error(str(problem))
        if not os.listdir(folder):
            problem = DataProblem(f"dataset_dir {folder}", "a folder with images", "an empty folder", "name another one")
            exit_with_error(str(problem))
        return folder
    folder = os.path.abspath(os.path.expanduser(default_dir))
    logger.info("dataset_dir is not given: using phantoms (synthetic data, no patients) in %s", folder)
    return exit_on_error(make_phantoms, folder, **phantom_settings)


def folder_of_images(items: Sequence[Mapping[str, Any]]) -> str:
    """Return the folder that holds the images of all cases, at any depth.

    Args:
        items: of a data list.

    Example:
        >>> folder_of_images([{"image": "/set/a/ct.nii"}, {"image": ["/set/b/t1.nii", "/set/b/t2.nii"]}])
        '/set'
    """
    first = [item["image"] if isinstance(item["image"], (str, os.PathLike)) else item["image"][0] for item in items]
    return os.path.commonpath([os.path.dirname(os.path.abspath(path)) for path in first])


def tell_long_protocol(protocol: str, device: Any, epochs: int, size: Sequence[int], cases: int) -> None:
    """Warn of a training on a CPU by the protocol of the paper, which data of one's own get by default, if it takes an hour or more.

    Args:
        protocol: "short" or "paper".
        device: where the network runs.
        epochs: passes over the cases.
        size: of an image.
        cases: that are trained on.
    """
    hours = epochs * cases * math.prod(size) / _VOXELS_PER_SECOND / 3600
    if protocol == "paper" and str(device).startswith("cpu") and hours >= 1:
        edges = " x ".join(map(str, size))
        fix = "--protocol short for a first look, fewer --epochs, or a GPU"
        got = f"{epochs} epochs of {cases} images at {edges}, the paper's protocol: {hours:.0f} hours or more on one core"
        logger.warning(error_sentence("protocol", "minutes on a CPU", got, fix))


def trained_settings(path: str) -> dict[str, Any]:
    """Return the settings that a training has written beside its weights.

    Args:
        path: the JSON file, which :class:`monai_jdt.handlers.TrainedSettingsWriter` writes.

    Raises:
        DataProblemError: if the file does not hold a JSON object.
    """
    try:
        with open(path, encoding="utf-8") as file:
            settings = json.load(file)
    except ValueError as error:
        got, settings = f"no JSON ({error})", None
    else:
        got = type(settings).__name__
    if not isinstance(settings, dict):
        fix = "copy it again from the folder of the training, or remove it and give its settings"
        raise DataProblemError([DataProblem(path, "the settings of a training, a JSON object", got, fix)])
    return settings


def check_figure_case(name: str | None, training: Sequence[Mapping[str, Any]], validation: Sequence[Mapping[str, Any]]) -> None:
    """Refuse to draw a case that is not validated.

    Args:
        name: its name; None: any case.
        training: the cases that are trained on.
        validation: the cases that are validated.

    Raises:
        ValueError: for any other name.
    """
    validated = [str(item["case"]) for item in validation]
    if name is None or name in validated:
        return
    if name in [str(item["case"]) for item in training]:
        expected, got = "a case that is validated", f"{name!r}, which is trained on"
    else:
        expected, got = "the name of a validation case", f"{name!r}"
    fix = f"--figure_case {next(iter(difflib.get_close_matches(name, validated, n=1, cutoff=0)), 'NAME')}"
    raise ValueError(error_sentence("figure_case", expected, got, fix))


def check_processes(processes: int, **cases: int) -> None:
    """Refuse fewer cases than processes: a distributed sampler gives each process a case of its own.

    Args:
        processes: the number of processes.
        cases: the number of cases of each side, by its name.

    Raises:
        ValueError: for fewer cases than processes.

    Example:
        >>> check_processes(2, training=16, validation=3)
    """
    for side, count in cases.items():
        if count < processes:
            expected = f"at least {processes} cases, one for each process"
            raise ValueError(error_sentence(side, expected, str(count), "start fewer processes, or give another split"))
