"""Functions that a bundle calls before its first transform: they check settings, find the data, and end a run with one line."""

from monai_jdt.bundle_runtime.brats_settings import BratsEvaluation, BratsPrediction, BratsTraining
from monai_jdt.bundle_runtime.building import build_or_exit
from monai_jdt.bundle_runtime.caching import fill_cache
from monai_jdt.bundle_runtime.case_lists import listed_cases, section_to_predict, split_by_blocks, split_of_list
from monai_jdt.bundle_runtime.evaluation_files import write_evaluation_files
from monai_jdt.bundle_runtime.exits import exit_on_error, exit_with_error, run_or_exit
from monai_jdt.bundle_runtime.held_folders import hold_folder, release_folder
from monai_jdt.bundle_runtime.labelled_lists import labelled_cases
from monai_jdt.bundle_runtime.lidc_lists import ensure_lidc_cases, lidc_cases, with_unmarked
from monai_jdt.bundle_runtime.lidc_settings import LidcEvaluation, LidcPrediction, LidcTraining
from monai_jdt.bundle_runtime.prediction_files import predicts_pictures
from monai_jdt.bundle_runtime.qubiq_settings import QubiqEvaluation, QubiqPrediction, QubiqTraining
from monai_jdt.bundle_runtime.resuming import checkpoint_to_resume, id_of_training, settings_to_resume
from monai_jdt.bundle_runtime.sources import (
    check_figure_case,
    check_processes,
    data_folder,
    folder_of_images,
    tell_long_protocol,
    trained_settings,
)
from monai_jdt.bundle_runtime.start import check_run
from monai_jdt.report.rated_cases import rated_cases_of

#: The former name of :func:`exit_on_error`, which overlay files of users may still call.
or_exit = exit_on_error

__all__ = [
    "BratsEvaluation",
    "BratsPrediction",
    "BratsTraining",
    "LidcEvaluation",
    "LidcPrediction",
    "LidcTraining",
    "QubiqEvaluation",
    "QubiqPrediction",
    "QubiqTraining",
    "build_or_exit",
    "check_figure_case",
    "check_processes",
    "check_run",
    "checkpoint_to_resume",
    "data_folder",
    "ensure_lidc_cases",
    "exit_on_error",
    "exit_with_error",
    "fill_cache",
    "folder_of_images",
    "hold_folder",
    "id_of_training",
    "labelled_cases",
    "lidc_cases",
    "listed_cases",
    "or_exit",
    "predicts_pictures",
    "rated_cases_of",
    "release_folder",
    "run_or_exit",
    "section_to_predict",
    "settings_to_resume",
    "split_by_blocks",
    "split_of_list",
    "tell_long_protocol",
    "trained_settings",
    "with_unmarked",
    "write_evaluation_files",
]
