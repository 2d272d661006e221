"""JDT losses for MONAI: Jaccard, Dice and Tversky losses that are right on soft labels, from rater files to reports.

After `import monai_jdt` the short names of losses, metrics, transforms and handlers can stand in a MONAI bundle's `_target_`; the full
path, such as `monai_jdt.losses.JDTCELoss`, can always.
"""

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = [
    "data",
    "functional",
    "handlers",
    "inferers",
    "losses",
    "metrics",
    "raters",
    "report",
    "teachers",
    "transforms",
    "value_checks",
]


def _is_command_line() -> bool:
    """Return whether this process is `monai-jdt` or `python -m monai_jdt`.

    Python imports a package before its submodule `cli` or its `__main__`. The answer is therefore known only by how the process was
    started. Where it is wrongly False, a verb only takes longer to start.
    """
    program = sys.argv[0] if getattr(sys, "argv", None) else ""
    if program != "-m":
        return os.path.splitext(os.path.basename(program))[0] == "monai-jdt"
    # Python sets argv[0] to "-m" while it imports the packages of the module that it is to run, which may be those of someone else
    return "-m" in sys.orig_argv and sys.orig_argv[sys.orig_argv.index("-m") + 1 :][:1] == ["monai_jdt"]


# MONAI finds the short names of bundles in the modules that are loaded when it meets the first `_target_`, so that all parts are
# loaded now. A verb of the command line uses no short names and loads what it needs. Torch and MONAI take 5 s of processor time.
# `--help` needs neither and takes 0.4 s.
if TYPE_CHECKING or not _is_command_line():
    from monai_jdt import data, functional, handlers, inferers, losses, metrics, raters, report, teachers, transforms
    from monai_jdt.checks import value_checks


def __getattr__(name: str) -> Any:
    """Load a part of the package at its first use, on the command line."""
    if name == "value_checks":
        return import_module("monai_jdt.checks").value_checks
    if name in __all__:
        return import_module(f"monai_jdt.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
