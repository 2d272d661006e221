"""The command line, `python -m monai_jdt <verb>`: one file per verb, each a thin face of the public functions.

All verbs are imported for every command line. So a verb's file imports torch, MONAI and what needs them within its function: `--help`
then takes 0.4 s of processor time instead of 5 s (`tests/cli/test_start.py`).
"""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from monai_jdt.cli.bundle import bundle_verbs
from monai_jdt.cli.check import check_command
from monai_jdt.cli.datalist import datalist_command
from monai_jdt.cli.demo import demo_command
from monai_jdt.cli.env import env_command
from monai_jdt.cli.evaluate import evaluate_command
from monai_jdt.cli.figure import figure_command
from monai_jdt.cli.fuse import fuse_command
from monai_jdt.cli.lidc import lidc_command
from monai_jdt.cli.nnunet import nnunet_verbs
from monai_jdt.cli.phantom import phantom_command
from monai_jdt.cli.raters import raters_command
from monai_jdt.cli.report import report_command
from monai_jdt.cli.resample import resample_command
from monai_jdt.data.problems import DataProblemError, error_line

app = typer.Typer(
    name="monai_jdt",
    help="JDT losses for MONAI: data, bundles and reports from the command line.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.add_typer(bundle_verbs, name="bundle")
app.add_typer(nnunet_verbs, name="nnunet")
app.command("check")(check_command)
app.command("datalist")(datalist_command)
app.command("demo")(demo_command)
app.command("env")(env_command)
app.command("evaluate")(evaluate_command)
app.command("figure")(figure_command)
app.command("fuse")(fuse_command)
app.command("lidc")(lidc_command)
app.command("phantom")(phantom_command)
app.command("raters")(raters_command)
app.command("report")(report_command)
app.command("resample")(resample_command)


def _print_version(wanted: bool) -> None:
    if wanted:
        from monai_jdt import __version__

        typer.echo(f"monai_jdt {__version__}")
        raise typer.Exit


@app.callback()
def _verbs(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """JDT losses for MONAI: data, bundles and reports from the command line."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a verb and end the process, with exit code 1 and one last line on standard error if it failed.

    Args:
        arguments: the command line without the program's name; None: that of the process.

    Raises:
        SystemExit: always. 0: done; 1: an error that the user can fix (`monai_jdt: error: ...`, no traceback); 2: a
            command line that cannot be read. Any other exception is a bug and keeps its traceback.
    """
    for stream in (sys.stdout, sys.stderr):
        # a terminal that knows fewer letters than the help or a file's name has shows a "?", and the verb goes on
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        app(args=None if arguments is None else list(arguments), prog_name="monai_jdt")
    except (ValueError, TypeError, OSError) as error:
        if isinstance(error, DataProblemError) and len(error.problems) > 1:
            print(error, file=sys.stderr)
        print(error_line(error), file=sys.stderr)
        sys.exit(1)
