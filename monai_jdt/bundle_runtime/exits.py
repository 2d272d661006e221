"""End a run of a bundle with one line and exit code 1, instead of a traceback.

MONAI wraps what a config expression raises into 60 to 130 lines (MONAI 1.6.1), and an error in a caching thread can abort the
interpreter. `SystemExit` on the main thread passes through MONAI, fire and ignite unchanged. Only the functions here raise it for
an error. Python code calls the functions that they wrap, and gets the exception.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pickle import UnpicklingError
from traceback import walk_tb
from typing import Any, NoReturn, TypeVar

import torch
from monai.handlers import CheckpointLoader

from monai_jdt.data.problems import DataProblemError, error_line
from monai_jdt.handlers.non_finite import NonFiniteLossError
from monai_jdt.progress_bar import close_bars
from monai_jdt.validation import error_sentence

_Result = TypeVar("_Result")


def exit_with_error(error: BaseException | str) -> NoReturn:
    """End the process with exit code 1 and the last line `monai_jdt: error: ...` on standard error.

    Args:
        error: the error, or its sentence. Several problems of a :class:`DataProblemError` are listed first.

    Raises:
        SystemExit: always, with code 1.
    """
    # an open progress bar would write over the last line when it is closed at exit
    close_bars()
    sys.stdout.flush()
    if isinstance(error, DataProblemError) and len(error.problems) > 1:
        print(error, file=sys.stderr)
    print(error_line(ValueError(error) if isinstance(error, str) else error), file=sys.stderr, flush=True)
    raise SystemExit(1)


def exit_on_error(function: Callable[..., _Result], *args: Any, **kwargs: Any) -> _Result:
    """Call a function. A data problem, a wrong argument or a missing file ends the process with one line.

    Do not use it inside a transform: a thread of a loader that exits hangs for ever.

    Args:
        function: e.g. :func:`monai_jdt.data.brats_datalist`.
        args: its arguments.
        kwargs: its keyword arguments.

    Returns:
        What the function returns.

    Raises:
        SystemExit: with code 1, after the line.
    """
    try:
        return function(*args, **kwargs)
    except (ValueError, TypeError, OSError) as error:
        exit_with_error(error)


def chain_of(error: BaseException) -> list[BaseException]:
    """Return an error and its causes, the first cause last. MONAI wraps what a transform or an expression raises.

    Args:
        error: the error that was caught.
    """
    chain = [error]
    while True:
        last = chain[-1]
        cause = last.__cause__ or (None if last.__suppress_context__ else last.__context__)
        if cause is None:
            return chain
        chain.append(cause)


def innermost(error: BaseException) -> BaseException:
    """Return the first cause of an error.

    Args:
        error: the error that was caught.
    """
    return chain_of(error)[-1]


def run_or_exit(engine: Any) -> None:
    """Run an engine. An error that the user can fix ends the process with one line.

    Such errors are a non-finite loss, a file that can no longer be read, weights that do not fit, and too little memory. Any other
    error keeps its traceback.

    Args:
        engine: a MONAI trainer or evaluator.

    Raises:
        SystemExit: with code 1, after the line.
    """
    try:
        engine.run()
    except Exception as error:
        exit_if_known(error)
        raise


def exit_if_known(error: BaseException) -> None:
    """End the process with one line if the user can fix the cause of an error. Otherwise do nothing.

    Args:
        error: what an engine or a data set raised.

    Raises:
        SystemExit: with code 1, after the line.
    """
    for cause in chain_of(error):
        if isinstance(cause, (DataProblemError, NonFiniteLossError)):
            exit_with_error(cause)
        line = _line_for(cause)
        if line is not None:
            exit_with_error(line)
    if any(
        frame.f_code is CheckpointLoader.__call__.__code__ for cause in chain_of(error) for frame, _ in walk_tb(cause.__traceback__)
    ):
        exit_with_error(_unreadable_checkpoint(innermost(error)))


def _unreadable_checkpoint(error: BaseException) -> str:
    got = f"a file that cannot be loaded ({type(error).__name__}: {' '.join(str(error).split())[:160]})"
    return error_sentence("the checkpoint", "weights that PyTorch has saved", got, "name another file with --ckpt_path")


def _line_for(error: BaseException) -> str | None:
    text = str(error)
    if "loading state_dict" in text:
        misfit = " ".join((text.split("\n")[1] if "\n" in text else text).split())
        fix = "give channels, regions or out_channels, and network_def as in training"
        got = f"others ({misfit if len(misfit) <= 200 else misfit[:197] + '...'})"
        return error_sentence("the checkpoint", "weights that fit the network", got, fix)
    if isinstance(error, (UnpicklingError, EOFError)) or "PytorchStreamReader" in text:
        return _unreadable_checkpoint(error)
    in_worker = re.search(r"^\S*DataProblemError: (.+)$", text, re.MULTILINE)  # a loader's process hands on the text of a traceback
    if in_worker is not None:
        return in_worker[1]
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "can't allocate memory" in text:
        fix = "smaller crops or images, a smaller batch_size, or fewer init_filters"
        return error_sentence("memory", "enough for a step", text.split("\n")[0], fix)
    if isinstance(error, (ValueError, TypeError, OSError)) and re.match(r"[^:\n]{1,500}: expected .+, got ", text):
        return text  # made by `error_sentence`: a target of another shape than the network's output, or a full disk
    return None
