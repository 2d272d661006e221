"""The former place of :mod:`monai_jdt.bundle_runtime`.

Bundles that users copied earlier, and their overlays, import this module by name.
"""

from monai_jdt.bundle_runtime import (
    check_choice,
    check_processes,
    check_settings,
    checked_file,
    data_folder,
    exit_with_error,
    or_exit,
    refuse_unknown_overrides,
    run_or_exit,
    unknown_overrides,
)

__all__ = [
    "check_choice",
    "check_processes",
    "check_settings",
    "checked_file",
    "data_folder",
    "exit_with_error",
    "or_exit",
    "refuse_unknown_overrides",
    "run_or_exit",
    "unknown_overrides",
]
