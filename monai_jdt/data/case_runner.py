"""Run one function over many cases, in this process, in several, or on a Dask cluster, with the same outcomes in the same order.

One bad case is an outcome, not the end of a run. So is a case whose process dies, of too little memory for example, where several
processes work.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

from monai_jdt.data.files.atomic import whole_file
from monai_jdt.progress_bar import with_progress
from monai_jdt.validation import error_sentence

_Case = TypeVar("_Case")
_Result = TypeVar("_Result")

#: What is said of a case that ended its process.
_DIED = "its process died, perhaps of too little memory"
#: How long a scheduler may take to answer.
_SECONDS_TO_CONNECT = 10


@dataclass(frozen=True)
class CaseOutcome(Generic[_Result]):
    """What became of a case.

    Args:
        name: the case's.
        result: what the function returned; None if it failed.
        failure: what went wrong, a line; None if nothing did.
    """

    name: str
    result: _Result | None
    failure: str | None = None


def run_cases(
    work: Callable[[_Case], _Result],
    cases: Sequence[_Case],
    names: Sequence[str],
    *,
    what: str,
    workers: int = 1,
    scheduler: str | None = None,
    progress: bool = True,
) -> Iterator[CaseOutcome[_Result]]:
    """Call a function for each case.

    With several workers, joblib runs the cases in processes of this machine. Each process has its share of the cores, so that torch's
    threads do not crowd each other. A case whose process dies is an outcome.

    With a scheduler, the cases run on the workers of a Dask cluster, which need this package and the cases' files under the same
    paths. If a worker dies, another one does its cases again. A case is given up when it has killed as many workers as the scheduler
    allows (`distributed.scheduler.allowed-failures`), and again as many while nothing else ran. The run waits for new workers when
    all are dead: those of `dask worker` start anew, those of `dask worker --no-nanny` do not.

    Args:
        work: called with a case; it must be a function of a module, so that another process can import it.
        cases: what it is called with.
        names: a name for each case.
        what: the text before the progress bar.
        workers: processes; 1: this one.
        scheduler: the address of a Dask scheduler, such as "tcp://host:8786"; `workers` is then not used.
        progress: whether to show a progress bar.

    Yields:
        An outcome for each case, in the order of the cases, as soon as those before it are there.

    Raises:
        ValueError: fewer than one worker, or `scheduler` without the extra `dask`.
        ConnectionError: no scheduler answers at that address, or it goes away.
    """
    if workers < 1:
        raise ValueError(error_sentence("workers", "a whole number of at least 1", str(workers), "--workers 1"))
    outcomes = _in_order(work, cases, names, workers, scheduler)
    yield from with_progress(outcomes, what, wanted=progress, total=len(cases))


def write_case_rows(
    work: Callable[[_Case], list[dict[str, Any]]],
    cases: Sequence[_Case],
    names: Sequence[str],
    files: Sequence[Sequence[str]],
    dest: str | os.PathLike[str],
    *,
    what: str,
    written: Callable[[Mapping[str, Any]], str] | None = None,
    finish: Callable[[Sequence[CaseOutcome[list[dict[str, Any]]]]], None] | None = None,
    settings: str | None = None,
    workers: int = 1,
    scheduler: str | None = None,
    progress: bool = True,
) -> list[CaseOutcome[list[dict[str, Any]]]]:
    """Write the rows that a function returns for each case into one CSV file.

    Finished cases are kept in `<dest>.unfinished` until all are there. The same call then goes on after the last of them, after a
    kill too. Cases that failed are tried again, and so are cases whose settings or files have changed since.

    Args:
        work: returns the rows of a case, with the same keys in every row of the run.
        cases: see :func:`run_cases`; the repr of a case tells all settings that its rows depend on.
        names: a name for each case, each once.
        files: the paths that a case's rows depend on, for each case.
        dest: the CSV file, written as a whole.
        what: see :func:`run_cases`.
        written: returns the file that the function wrote for a row, or "" for none. A case without its files is not finished.
        finish: called with the outcomes if no case failed. The run counts as interrupted until it returns.
        settings: what an interrupted run must have been started with, as text. Another text is refused, since files of that run would
            be replaced. None: cases whose settings have changed are computed again.
        workers: see :func:`run_cases`.
        scheduler: see :func:`run_cases`.
        progress: see :func:`run_cases`.

    Returns:
        The outcomes of all cases, in their order. The rows of failed cases are not in the file.

    Raises:
        ValueError: a name twice, rows whose keys differ, or an interrupted run with other settings.
        OSError: `dest` cannot be written.
    """
    if len(set(names)) < len(names):
        twice = next(name for name in names if list(names).count(name) > 1)
        raise ValueError(error_sentence("names", "each case once", f"{twice!r} again", "rename a case in the list"))
    unfinished = f"{os.fspath(dest)}.unfinished"
    if settings is not None:
        refuse_other_settings(dest, settings)
    prints = {name: _fingerprint(case, paths) for name, case, paths in zip(names, cases, files, strict=True)}
    done = {name: rows for (name, print_), rows in _finished_cases(unfinished).items() if prints.get(name) == print_}
    if written is not None:
        files_of = {name: [path for row in rows if (path := written(row))] for name, rows in done.items()}
        done = {name: rows for name, rows in done.items() if all(map(os.path.exists, files_of[name]))}
    missing = [number for number, name in enumerate(names) if name not in done]
    left, left_names = [cases[number] for number in missing], [names[number] for number in missing]
    failed: dict[str, str] = {}
    os.makedirs(os.path.dirname(unfinished) or ".", exist_ok=True)
    with open(unfinished, "a", encoding="utf-8") as file:
        if settings is not None and file.tell() == 0:
            _add_line(file, {"settings": settings})
        for outcome in run_cases(work, left, left_names, what=what, workers=workers, scheduler=scheduler, progress=progress):
            if outcome.failure is not None:
                failed[outcome.name] = outcome.failure
                continue
            assert outcome.result is not None
            done[outcome.name] = outcome.result
            _add_line(file, {"case": outcome.name, "fingerprint": prints[outcome.name], "rows": outcome.result})
    _write_table([row for name in names for row in done.get(name, [])], dest)
    outcomes = [CaseOutcome(name, done.get(name), failed.get(name)) for name in names]
    if not failed:
        if finish is not None:
            finish(outcomes)
        os.remove(unfinished)
    return outcomes


def refuse_other_settings(dest: str | os.PathLike[str], settings: str) -> None:
    """Refuse to go on with an interrupted run that was started with other settings.

    Args:
        dest: as in :func:`write_case_rows`.
        settings: as in :func:`write_case_rows`.

    Raises:
        ValueError: there is such a run.
    """
    unfinished = f"{os.fspath(dest)}.unfinished"
    if not os.path.exists(unfinished) or os.path.getsize(unfinished) == 0:
        return
    with open(unfinished, "rb") as file:
        first = file.readline()
    # a kill may have cut the first line off, before any case
    before = json.loads(first).get("settings", "settings that are not known") if first.endswith(b"\n") else settings
    if before != settings:
        fix = "give these settings again, name another folder, or remove that file and the files of its run"
        raise ValueError(error_sentence(unfinished, f"an interrupted run with {settings}", f"one with {before}", fix))


def _fingerprint(case: Any, paths: Sequence[str]) -> str:
    """Return a text that changes with the case's settings, its files' sizes and times, and the package."""
    from monai_jdt import __version__

    stats = [(path, *((at := os.stat(path)).st_size, at.st_mtime_ns)) if os.path.exists(path) else (path,) for path in paths]
    return hashlib.sha256(repr((__version__, case, stats)).encode()).hexdigest()


def _in_order(
    work: Callable[[_Case], _Result], cases: Sequence[_Case], names: Sequence[str], workers: int, scheduler: str | None
) -> Iterator[CaseOutcome[_Result]]:
    if scheduler is not None:
        yield from _on_cluster(work, cases, names, scheduler)
    elif workers > 1:
        yield from _in_processes(work, cases, names, workers)
    else:
        for case, name in zip(cases, names, strict=True):
            yield CaseOutcome(name, *_result_or_failure(work, case))


def _in_processes(
    work: Callable[[_Case], _Result], cases: Sequence[_Case], names: Sequence[str], workers: int
) -> Iterator[CaseOutcome[_Result]]:
    # imported late: it takes time, and most calls do not need it
    from joblib import Parallel, delayed
    from joblib.externals.loky.process_executor import BrokenProcessPool

    finished = 0
    while finished < len(cases):
        pool = Parallel(n_jobs=workers, return_as="generator")
        try:
            for result in pool(delayed(_result_or_failure)(work, case) for case in cases[finished:]):
                yield CaseOutcome(names[finished], *result)
                finished += 1
        except BrokenProcessPool:
            # the guilty case is among those that were handed out: most often the first few that have no result
            suspects = range(finished, min(finished + 2 * workers, len(cases)))
            for outcome in _one_at_a_time(work, [cases[n] for n in suspects], [names[n] for n in suspects]):
                yield outcome
                finished += 1


def _one_at_a_time(work: Callable[[_Case], _Result], cases: Sequence[_Case], names: Sequence[str]) -> Iterator[CaseOutcome[_Result]]:
    """Outcomes by one process at a time, whose death belongs to the one case that it had."""
    from joblib.externals.loky import ProcessPoolExecutor
    from joblib.externals.loky.process_executor import BrokenProcessPool

    executor = None
    for case, name in zip(cases, names, strict=True):
        executor = executor or ProcessPoolExecutor(max_workers=1)
        try:
            yield CaseOutcome(name, *executor.submit(_result_or_failure, work, case).result())
        except BrokenProcessPool:
            yield CaseOutcome(name, None, _DIED)
            executor.shutdown()
            executor = None
    if executor is not None:
        executor.shutdown()


def _on_cluster(
    work: Callable[[_Case], _Result], cases: Sequence[_Case], names: Sequence[str], scheduler: str
) -> Iterator[CaseOutcome[_Result]]:
    try:
        with _client_of(scheduler) as client:
            yield from _by_futures(work, cases, names, client)
    except CancelledError:
        fix = "start it again; where rows are written, the same command goes on"
        raise ConnectionError(error_sentence("scheduler", "a cluster that stays up", "it went away", fix)) from None


def _by_futures(
    work: Callable[[_Case], _Result], cases: Sequence[_Case], names: Sequence[str], client: Any
) -> Iterator[CaseOutcome[_Result]]:
    """Outcomes by Dask's own futures: joblib's generator never ends if the cluster gives a case up."""
    from distributed import KilledWorker, wait

    waiting = iter(cases)
    running: deque[tuple[_Case, Any]] = deque()
    for name in names:
        while True:
            # enough that no worker waits, few enough that memory does not grow with the cases
            busy = [future for _, future in running if not future.done()]
            wanted = 2 * max(1, sum(client.nthreads().values())) - len(busy)
            for _, case in zip(range(wanted), waiting, strict=False):
                running.append((case, client.submit(partial(_result_or_failure, work, case), pure=False)))
            if running[0][1].done():
                break
            wait(busy or [future for _, future in running], return_when="FIRST_COMPLETED")
        case, future = running.popleft()
        try:
            yield CaseOutcome(name, *future.result())
        except KilledWorker:
            # a case that only waited at workers that died is blamed too, so it gets another try, alone
            wait([other for _, other in running])
            try:
                yield CaseOutcome(name, *client.submit(partial(_result_or_failure, work, case), pure=False).result())
            except KilledWorker:
                yield CaseOutcome(name, None, _DIED)


def _client_of(scheduler: str) -> Any:
    try:
        from distributed import Client
    except ImportError:
        fix = "pip install 'monai-jdt[dask]'"
        raise ValueError(error_sentence("scheduler", "the packages dask and distributed", "they are not installed", fix)) from None
    try:
        return Client(scheduler, timeout=_SECONDS_TO_CONNECT)
    except (OSError, ValueError) as error:
        fix = "start one by `dask scheduler`, and workers by `dask worker ADDRESS`"
        raise ConnectionError(error_sentence("scheduler", "a Dask scheduler at that address", f"{scheduler}: {error}", fix)) from None


def _result_or_failure(work: Callable[[_Case], _Result], case: _Case) -> tuple[_Result | None, str | None]:
    try:
        return work(case), None
    except Exception as error:  # whatever a bad file does to a reader
        text = str(error)
        return None, text if isinstance(error, ValueError | OSError) and text else f"{type(error).__name__}: {text}"


def _finished_cases(unfinished: str) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """Return rows by case and fingerprint. A last line that a kill has cut off is dropped from the file."""
    if not os.path.exists(unfinished):
        return {}
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    whole = 0
    with open(unfinished, "rb") as file:
        for line in file:
            if not line.endswith(b"\n"):
                break
            try:
                entry = json.loads(line)
                if "settings" in entry:
                    whole += len(line)
                    continue
                found[entry["case"], entry["fingerprint"]] = entry["rows"]
            except (ValueError, KeyError, TypeError) as error:
                got = f"line {len(found) + 1}: {error}"
                raise ValueError(error_sentence(unfinished, "rows of an interrupted run", got, "remove the file")) from None
            whole += len(line)
    os.truncate(unfinished, whole)
    return found


def _add_line(file: Any, entry: Mapping[str, Any]) -> None:
    """A case counts as finished when its line is on the disk."""
    file.write(json.dumps(entry) + "\n")
    file.flush()
    os.fsync(file.fileno())


def _write_table(rows: Sequence[Mapping[str, Any]], dest: str | os.PathLike[str]) -> None:
    columns = list(rows[0]) if rows else []
    for row in rows:
        if list(row) != columns:
            raise ValueError(error_sentence("rows", f"the columns {columns}", str(list(row)), "return the same keys for every case"))
    with whole_file(dest) as draft, open(draft, "w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
