"""What a bundle does before its first transform, on the main thread: one clear line and exit code 1 instead of a traceback.

MONAI wraps whatever a config expression raises into some seventy lines, and an error in a caching thread can abort the
interpreter. `SystemExit` on the main thread passes through MONAI, fire and ignite as it is; these functions are the
only place where errors become one. From Python, call the functions they wrap.
"""

from __future__ import annotations

import difflib
import inspect
import logging
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NoReturn, TypeVar

from tqdm import tqdm

from monai_jdt.data.problems import DataProblem, DataProblemError, error_line
from monai_jdt.handlers.non_finite import NonFiniteLossError

_Result = TypeVar("_Result")

logger = logging.getLogger(__name__)


def exit_with_error(error: BaseException | str) -> NoReturn:
    """End the process with exit code 1; the last line on standard error is `monai_jdt: error: ...`.

    Args:
        error: what happened. The problems of a :class:`DataProblemError` are listed first if there are several.

    Raises:
        SystemExit: always, with code 1.
    """
    # an open progress bar would share its line with ours, and write over it when it is closed at exit
    for bar in list(getattr(tqdm, "_instances", ())):
        bar.close()
    sys.stdout.flush()
    if isinstance(error, DataProblemError) and len(error.problems) > 1:
        print(error, file=sys.stderr)
    print(error_line(ValueError(error) if isinstance(error, str) else error), file=sys.stderr, flush=True)
    raise SystemExit(1)


def or_exit(function: Callable[..., _Result], *args: Any, **kwargs: Any) -> _Result:
    """Call a function of the data layer; a data problem, a wrong argument or a missing file ends the process with one line.

    Never for use inside a transform: a loader's worker thread that exits hangs for ever.

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


def run_or_exit(engine: Any) -> None:
    """Run an engine; a non-finite loss, a file gone bad since the check, or weights of another network end it with one line.

    Any other error is let through with its traceback.

    Args:
        engine: a MONAI trainer or evaluator.

    Raises:
        SystemExit: with code 1, after the line.
    """
    try:
        engine.run()
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None:  # MONAI wraps what a transform raises
            if isinstance(cause, (DataProblemError, NonFiniteLossError)):
                exit_with_error(cause)
            if "loading state_dict" in str(cause):
                misfit = " ".join(str(cause).split("\n")[1].split()) if "\n" in str(cause) else str(cause)
                problem = "the checkpoint: expected weights that fit the network, got others (" + misfit + ")"
                exit_with_error(problem + ". Fix: give channels, regions or out_channels, and network_def as in training")
            cause = cause.__cause__ or cause.__context__
        raise


def check_settings(*, epochs: int, blocks: int, **sizes: Sequence[int]) -> None:
    """Settings that MONAI would answer with pages of traceback.

    Args:
        epochs: the number of epochs.
        blocks: the number of resolutions of the network; each but the first halves the size.
        sizes: sizes of what the network sees, voxels, under the names that they have in the config.

    Raises:
        ValueError: `epochs` below 1, or a size that the network cannot halve so often.

    Example:
        >>> check_settings(epochs=20, blocks=4, roi=[32, 32, 32])
    """
    if isinstance(epochs, bool) or not isinstance(epochs, int) or epochs < 1:
        raise ValueError(f"epochs: expected a whole number >= 1, got {epochs!r}. Fix: --epochs 20")
    multiple = 2 ** (blocks - 1)
    for name, size in sizes.items():
        if any(edge < multiple or edge % multiple for edge in size):
            near = [max(round(edge / multiple), 1) * multiple for edge in size]
            why = f"since the network halves them {blocks - 1} times"
            raise ValueError(f"{name}: expected multiples of {multiple}, {why}, got {list(size)}. Fix: {near}")


def check_choice(name: str, value: Any, choices: Iterable[Any]) -> None:
    """A setting that is one of a few.

    Args:
        name: its key in the config.
        value: what was given.
        choices: what may be given.

    Raises:
        ValueError: for anything else.

    Example:
        >>> check_choice("label_source", "staple", ["average", "staple"])
    """
    known = list(choices)
    if value not in known:
        close = difflib.get_close_matches(str(value).lower(), [str(choice) for choice in known], n=1)
        raise ValueError(f"{name}: expected one of {known}, got {value!r}. Fix: --{name} {close[0] if close else known[0]}")


def check_processes(processes: int, **cases: int) -> None:
    """Every process of a distributed run needs a case of its own on each side.

    Args:
        processes: how many there are.
        cases: how many cases each side has, by its name.

    Raises:
        ValueError: for fewer cases than processes, which a distributed sampler cannot deal out.

    Example:
        >>> check_processes(2, training=16, validation=3)
    """
    for side, count in cases.items():
        if count < processes:
            fix = "fewer processes, or another split"
            raise ValueError(f"{side}: expected at least {processes} cases, one for each process, got {count}. Fix: {fix}")


def data_folder(dataset_dir: str | None, default_dir: str, make_phantoms: Callable[..., str], **phantom_settings: Any) -> str:
    """The folder of the data: the user's, or phantoms that are made on first use.

    Args:
        dataset_dir: the user's folder; None takes phantoms. A named folder that is absent or empty is an error, never
            replaced by phantoms.
        default_dir: where the phantoms lie or will lie.
        make_phantoms: makes them unless they are there, e.g. :func:`monai_jdt.data.ensure_brats_phantoms`.
        phantom_settings: its keyword arguments.

    Returns:
        The absolute path of the folder.

    Raises:
        SystemExit: with code 1, after one line, if the folder cannot be used.
    """
    if dataset_dir is not None:
        folder = os.path.abspath(os.path.expanduser(os.fspath(dataset_dir)))
        if not os.path.isdir(folder):
            got = "a file" if os.path.exists(folder) else "nothing at that path"
            problem = DataProblem(f"dataset_dir {folder}", "a folder with images", got, "name the data set's folder")
            exit_with_error(str(problem))
        if not os.listdir(folder):
            problem = DataProblem(f"dataset_dir {folder}", "a folder with images", "an empty folder", "name another one")
            exit_with_error(str(problem))
        return folder
    folder = os.path.abspath(default_dir)
    logger.info("dataset_dir is not given: using phantoms (synthetic data, no patients) in %s", folder)
    return or_exit(make_phantoms, folder, **phantom_settings)


def checked_file(path: str, expected: str, fix: str) -> str:
    """A file that must be there.

    Args:
        path: the file.
        expected: what it should be, e.g. "a checkpoint".
        fix: what the user can do if it is not there.

    Returns:
        The path.

    Raises:
        DataProblemError: if there is no file at the path.
    """
    if not os.path.isfile(path):
        raise DataProblemError([DataProblem(path, expected, "no file at that path", fix)])
    return path


def refuse_unknown_overrides(arguments: Sequence[str] | None = None) -> None:
    """End a `python -m monai.bundle run` whose command line overrides a key that no config file has.

    MONAI adds such a key to the config and says nothing, so that `--epoch 3` trains with the default `epochs`. A new
    keyword below a node with a `_target_` is taken as a constructor argument and let through. Where the process is not
    `python -m monai.bundle run` (or `run_workflow`), nothing is checked.

    Args:
        arguments: the command line, program first; None takes that of this process.

    Raises:
        SystemExit: with code 1, after one line that names the closest key.
    """
    arguments = list(sys.argv if arguments is None else arguments)
    program = os.path.normpath(arguments[0]).split(os.sep) if arguments else []
    if program[-3:] != ["monai", "bundle", "__main__.py"] or arguments[1:2] not in (["run"], ["run_workflow"]):
        return
    given = _command_line_overrides(arguments[2:])
    args_file = given.get("args_file")
    if args_file is not None:
        given = {**_read_config(args_file), **given}
    files = given.get("config_file")
    if files is None:
        return
    unknown = unknown_overrides(_read_config(files), [k for k in given if k not in _parameters_of_run(given)])
    if unknown:
        for line in unknown[1:]:
            print(line, file=sys.stderr)
        exit_with_error(unknown[0])


def unknown_overrides(config: Mapping[str, Any], keys: Sequence[str]) -> list[str]:
    """Say which keys of a command line stand for nothing in a config.

    Args:
        config: the merged content of the config files, before any override.
        keys: ids as on the command line: `epochs`, `train#trainer#max_epochs`, `train::trainer::max_epochs`.

    Returns:
        One line for each key that is unknown, with the closest known one.

    Example:
        >>> unknown_overrides({"epochs": 20, "net": {"_target_": "SegResNet"}}, ["epochs", "net#dropout_prob"])
        []
        >>> unknown_overrides({"epochs": 20}, ["epoch"])
        ['--epoch: expected a key of the config files, got an unknown one; did you mean --epochs?']
    """
    lines = []
    for key in keys:
        node: Any = config
        for depth, part in enumerate(parts := re.split(r"::|#", key)):
            choices = _children(node)
            if part not in choices:
                if isinstance(node, Mapping) and "_target_" in node and depth == len(parts) - 1:
                    break  # a further argument of that component
                lines.append(_unknown_line(key, parts[:depth], part, choices))
                break
            node = node[part] if isinstance(node, Mapping) else node[int(part)]
    return lines


def _children(node: Any) -> list[str]:
    if isinstance(node, Mapping):
        return [str(name) for name in node]
    return [str(i) for i in range(len(node))] if isinstance(node, list) else []


def _unknown_line(key: str, parents: Sequence[str], part: str, choices: Sequence[str]) -> str:
    close = difflib.get_close_matches(part, [c for c in choices if not c.startswith("_")], n=1, cutoff=0.5)
    if part.startswith("+") and part[1:] in choices:
        hint = "'+' merges in a config file only; put it into an overlay file"
    elif close:
        hint = f"did you mean --{'#'.join([*parents, close[0]])}?"
    else:
        hint = "a new key belongs into an overlay file of --config_file"
    return f"--{key}: expected a key of the config files, got an unknown one; {hint}"


def _command_line_overrides(arguments: Sequence[str]) -> dict[str, Any]:
    """Keys and values of `--key value`, `--key=value`, `--flag`, as fire reads them."""
    from fire.parser import DefaultParseValue

    given: dict[str, Any] = {}
    key: str | None = None
    for argument in arguments:
        if argument == "--":
            break  # what follows is for fire itself
        if re.match(r"--|-[a-zA-Z]", argument):
            name, equals, value = argument.lstrip("-").partition("=")
            # fire turns the dashes of a name into underscores
            key = name.replace("-", "_")
            given[key] = DefaultParseValue(value) if equals else True
            if equals:
                key = None
        elif key is not None:
            given[key] = DefaultParseValue(argument)
            key = None
    return given


def _parameters_of_run(given: Mapping[str, Any]) -> set[str]:
    from monai.bundle import ConfigWorkflow, run, run_workflow

    names = {name for f in (run, run_workflow, ConfigWorkflow.__init__) for name in inspect.signature(f).parameters}
    if "tracking" in given:
        names |= {"output_dir", "tracking_uri", "experiment_name", "run_name", "save_execute_config"}
    return names


def _read_config(files: Any) -> dict[str, Any]:
    from monai.bundle import ConfigParser

    return ConfigParser.load_config_files(files)
