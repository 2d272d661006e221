"""What a bundle calls on the main thread before its first transform: settings are checked, data are found, errors are one line."""

from monai_jdt.bundle_runtime.caching import fill_cache
from monai_jdt.bundle_runtime.exits import exit_with_error, or_exit, run_or_exit
from monai_jdt.bundle_runtime.keys import refuse_unknown_overrides, unknown_overrides
from monai_jdt.bundle_runtime.settings import check_choice, check_settings
from monai_jdt.bundle_runtime.sources import check_processes, checked_file, data_folder

__all__ = [
    "check_choice",
    "check_processes",
    "check_settings",
    "checked_file",
    "data_folder",
    "exit_with_error",
    "fill_cache",
    "or_exit",
    "refuse_unknown_overrides",
    "run_or_exit",
    "unknown_overrides",
]
