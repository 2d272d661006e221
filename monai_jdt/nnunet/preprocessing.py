"""nnU-Net's preprocessing with a channel for each rater behind the fused label."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.utilities.dataset_name_id_conversion import maybe_convert_to_dataset_name
from nnunetv2.utilities.utils import get_filenames_of_train_images_and_targets

from monai_jdt.data.files.atomic import whole_file
from monai_jdt.data.files.file_volume import one_problem
from monai_jdt.nnunet.raw_dataset import MISSING, PLANS_ENDING, RATERS_FOLDER, nnunet_folder, rater_files_of
from monai_jdt.progress_bar import shows_progress
from monai_jdt.validation import error_sentence

_SPLITS = "splits_final.json"
# nnU-Net's numbers of processes, which follow from the memory that its configurations need.
_PROCESSES = {"2d": 8, "3d_lowres": 8}
_PROCESSES_OF_OTHERS = 4


class RaterPreprocessor(DefaultPreprocessor):
    """nnU-Net's default preprocessor, whose segmentation has 1 + R channels: the fused label, then raters 1 to R.

    Images, the first channel and the places around which patches are drawn are those of nnU-Net, bit for bit: patches around what any
    rater marked instead made worse networks (docs/nnunet.md). Where a rater has no map of a case, the channel is
    :data:`monai_jdt.nnunet.raw_dataset.MISSING` everywhere. A case without any rater has one opinion, its fused label.

    Args:
        raters: R, the same for every case, since a batch is one array.
        files: for each label file, channel of the rater, from 1 on, to path.
        verbose: as nnU-Net's.
    """

    def __init__(self, raters: int, files: Mapping[str, Mapping[int, str]], verbose: bool = False) -> None:
        super().__init__(verbose=verbose)
        self.raters = raters
        self.files = files

    def run_case(
        self,
        image_files: list[str],
        seg_file: str | None,
        plans_manager: Any,
        configuration_manager: Any,
        dataset_json: dict[str, Any] | str,
    ) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
        """Preprocess one case of the training set.

        Args:
            image_files: one for each channel.
            seg_file: the fused label.
            plans_manager: nnU-Net's.
            configuration_manager: nnU-Net's.
            dataset_json: its content, or its path.

        Returns:
            The image, the segmentation `(1 + R, *S)`, and nnU-Net's properties.

        Raises:
            DataProblemError: a rater's map of another shape than the label, or with a value that `dataset.json` does not have.
        """
        if seg_file is None:
            return super().run_case(image_files, seg_file, plans_manager, configuration_manager, dataset_json)
        if isinstance(dataset_json, str):
            dataset_json = json.loads(Path(dataset_json).read_text("utf-8"))
        reader = plans_manager.image_reader_writer_class()
        data, properties = reader.read_images(image_files)
        fused = reader.read_seg(seg_file)[0]
        labels = plans_manager.get_label_manager(dataset_json)
        legal = [*labels.all_labels, *([labels.ignore_label] if labels.has_ignore_label else [])]
        stack = np.full((1 + self.raters, *fused.shape[1:]), MISSING, fused.dtype)
        stack[0] = fused[0]
        paths = self.files[seg_file]
        for channel, path in paths.items():
            stack[channel] = _checked_map(path, reader.read_seg(path)[0], fused.shape, legal)
        if not paths:
            stack[1] = fused[0]
        return self.run_case_npy(data, stack, properties, plans_manager, configuration_manager, dataset_json)

    @staticmethod
    def _sample_foreground_locations(seg: np.ndarray, *args: Any, **settings: Any) -> dict[Any, Any]:
        """Look for foreground in the fused label alone."""
        return DefaultPreprocessor._sample_foreground_locations(seg[:1], *args, **settings)


def _checked_map(path: str, values: np.ndarray, shape: tuple[int, ...], legal: Sequence[int]) -> np.ndarray:
    if values.shape != shape:
        raise one_problem(path, f"shape {shape[1:]}, as the label", str(values.shape[1:]), "export it on the image's voxels")
    wrong = np.setdiff1d(values, legal)
    if wrong.size:
        fix = "number the labels as dataset.json does"
        raise one_problem(path, f"label values among {list(map(int, legal))}", f"{wrong[0]:g}", fix)
    return values[0]


@dataclass(frozen=True)
class PreprocessedRaters:
    """What :func:`preprocess_raters` did.

    Args:
        dataset: nnU-Net's name of the data set.
        plans: the name of the plans to train with.
        configurations: what was preprocessed.
        raters: how many rater channels there are.
        cases: how many cases there are.
        without: the cases without a rater's map, whose label is their one opinion.
    """

    dataset: str
    plans: str
    configurations: tuple[str, ...]
    raters: int
    cases: int
    without: tuple[str, ...]


def preprocess_raters(
    dataset: str | int,
    configurations: Sequence[str] = (),
    plans: str = "nnUNetPlans",
    processes: int | None = None,
    progress: bool = True,
) -> PreprocessedRaters:
    """Preprocess a raw data set with its raters, beside what nnU-Net's own preprocessing wrote.

    The plans are copied under the name `<plans>Raters`, so that both trainings have the same plans, and nnU-Net's own trainer never
    meets rater channels. The channels are the raters that have any map, in the order of their numbers: a number may be large. Labels go
    to `gt_segmentations`. The raw data set's `splits_final.json` goes to the preprocessed data if there is none. A folder of data is
    there as a whole or not at all: data of an earlier run stay until the new ones are complete.

    Args:
        dataset: name or number.
        configurations: such as "3d_fullres". Empty: every one that the plans describe.
        plans: the name of nnU-Net's plans.
        processes: None: nnU-Net's numbers.
        progress: whether to show nnU-Net's progress bar.

    Raises:
        ValueError: no such data set, plans or configuration, no raters, plans of that name that differ, or one of nnU-Net's folders
            is not named by its environment variable.
        DataProblemError: see :class:`RaterPreprocessor`. Then the data of an earlier run stay.
    """
    raw, preprocessed = nnunet_folder("nnUNet_raw"), nnunet_folder("nnUNet_preprocessed")
    name = _dataset_name(dataset)
    raw, preprocessed = os.path.join(raw, name), os.path.join(preprocessed, name)
    content = _read_json(os.path.join(raw, "dataset.json"), "make the data set by `monai-jdt nnunet convert`")
    number = int(name[7:10])
    fix = f"run `nnUNetv2_plan_and_preprocess -d {number} --verify_dataset_integrity --no_pp`"
    given = _read_json(os.path.join(preprocessed, f"{plans}.json"), fix)
    own = sorted(key for key, settings in given["configurations"].items() if "data_identifier" in settings)
    unknown = [key for key in configurations if key not in own]
    if unknown:
        raise ValueError(error_sentence("CONFIGURATION", f"one of {', '.join(own)}", unknown[0], "name one of them, or none for all"))
    chosen = tuple(dict.fromkeys(configurations)) or tuple(own)
    cases = get_filenames_of_train_images_and_targets(raw, content)
    found = rater_files_of(os.path.join(raw, RATERS_FOLDER), cases, content["file_ending"])
    numbers = sorted({number for paths in found.values() for number in paths})
    channels = {number: channel for channel, number in enumerate(numbers, 1)}
    files = {cases[case]["label"]: {channels[number]: path for number, path in paths.items()} for case, paths in found.items()}
    copied = plans + PLANS_ENDING
    _write_plans(os.path.join(preprocessed, f"{copied}.json"), given, copied)
    preprocessor = RaterPreprocessor(len(numbers), files)
    preprocessor.show_progress_bar = shows_progress(progress)
    for configuration in chosen:
        used = processes or _PROCESSES.get(configuration, _PROCESSES_OF_OTHERS)
        _write_data(preprocessor, preprocessed, given, copied, configuration, used)
    _copy_labels(os.path.join(preprocessed, "gt_segmentations"), cases, content["file_ending"])
    splits = os.path.join(raw, _SPLITS)
    if os.path.exists(splits) and not os.path.exists(os.path.join(preprocessed, _SPLITS)):
        shutil.copyfile(splits, os.path.join(preprocessed, _SPLITS))
    without = tuple(case for case, paths in found.items() if not paths)
    return PreprocessedRaters(name, copied, chosen, len(numbers), len(cases), without)


def _dataset_name(dataset: str | int) -> str:
    try:
        return maybe_convert_to_dataset_name(dataset)
    except (RuntimeError, ValueError) as error:
        fix = "look for it in nnUNet_raw, and name it Dataset503_Nodules or 503"
        raise ValueError(error_sentence("dataset", "a data set of nnU-Net", repr(dataset), fix)) from error


def _read_json(path: str, fix: str) -> dict[str, Any]:
    if not os.path.isfile(path):
        raise one_problem(path, "a file of nnU-Net", "nothing at that path", fix)
    return json.loads(Path(path).read_text("utf-8"))


def _plans_called(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return nnU-Net's plans under another name, with folders of their own."""
    settings = {key: dict(value) for key, value in given["configurations"].items()}
    for key, value in settings.items():
        if "data_identifier" in value:
            value["data_identifier"] = f"{name}_{key}"
    return {**given, "plans_name": name, "configurations": settings}


def _write_plans(path: str, given: Mapping[str, Any], name: str) -> None:
    plans = _plans_called(name, given)
    if os.path.exists(path):
        if json.loads(Path(path).read_text("utf-8")) != plans:
            fix = "move them and what was trained with them away, or preprocess nnU-Net's plans under another name"
            raise ValueError(error_sentence(path, f"a copy of the plans {given['plans_name']}", "others", fix))
        return
    with whole_file(path) as draft:
        Path(draft).write_text(json.dumps(plans, indent=4) + "\n", "utf-8")


def _write_data(
    preprocessor: RaterPreprocessor, folder: str, given: Mapping[str, Any], name: str, configuration: str, processes: int
) -> None:
    """Let nnU-Net preprocess into a hidden folder, and rename it when it is complete.

    nnU-Net deletes the folder that its plans name, and fills it case by case. A training would take a half filled one for a data set of
    fewer cases. So the data are written by plans with hidden names, which are the configuration's own: two jobs may preprocess two
    configurations at once. What a killed run leaves of them, the next one replaces.

    Args:
        preprocessor: with the raters.
        folder: the data set's, below nnUNet_preprocessed.
        given: nnU-Net's plans.
        name: of their copy.
        configuration: one of the plans.
        processes: how many.
    """
    target, draft, old = (os.path.join(folder, f"{start}{name}_{configuration}") for start in ("", ".", ".old_"))
    plans = Path(f"{draft}.json")
    plans.write_text(json.dumps(_plans_called(f".{name}", given)), "utf-8")
    try:
        preprocessor.run(os.path.basename(folder), configuration, plans.stem, num_processes=processes)
        _replace_folder(target, draft, old)
    finally:
        plans.unlink(missing_ok=True)
        shutil.rmtree(draft, ignore_errors=True)


def _replace_folder(target: str, draft: str, old: str) -> None:
    """Rename the draft to the target. If that fails, the target is as it was."""
    there = os.path.isdir(target)
    if there:
        shutil.rmtree(old, ignore_errors=True)
        os.rename(target, old)
    try:
        os.rename(draft, target)
    except BaseException:
        if there and not os.path.exists(target):
            os.rename(old, target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _copy_labels(folder: str, cases: Mapping[str, Mapping[str, Any]], ending: str) -> None:
    """Copy the labels to where nnU-Net's validation looks for them, as its own command for preprocessing does."""
    os.makedirs(folder, exist_ok=True)
    for case, files in cases.items():
        shutil.copy2(files["label"], os.path.join(folder, case + ending))
