"""One function over many cases: order, failures, dead processes, and runs that go on where they were killed."""

from __future__ import annotations

import csv
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from monai_jdt.data import case_runner
from monai_jdt.data.case_runner import CaseOutcome, run_cases, write_case_rows


def square(case: int) -> int:
    if case == 3:
        raise ValueError("case 3: expected an even number, got 3. Fix: another.")
    if case == 5:
        raise KeyError("image")
    return case * case


def square_or_die(case: int) -> int:
    if case == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return square(case)


EXPECTED = [
    CaseOutcome(str(n), None, "case 3: expected an even number, got 3. Fix: another.")
    if n == 3
    else CaseOutcome(str(n), None, "KeyError: 'image'")
    if n == 5
    else CaseOutcome(str(n), n * n)
    for n in range(12)
]


@pytest.mark.parametrize("workers", [1, 2])
def test_outcomes_stand_in_order(workers: int) -> None:
    cases = list(range(12))
    assert list(run_cases(square, cases, [str(n) for n in cases], what="squares", workers=workers)) == EXPECTED
    assert list(run_cases(square, [], [], what="squares", workers=workers)) == []


@pytest.mark.long
def test_a_case_that_kills_its_process_is_one_outcome() -> None:
    cases = list(range(12))
    got = list(run_cases(square_or_die, cases, [str(n) for n in cases], what="squares", workers=2))
    assert got[4].failure is not None
    assert "process died" in got[4].failure
    assert [*got[:4], *got[5:]] == [*EXPECTED[:4], *EXPECTED[5:]]


def test_a_worker_needs_to_be_there() -> None:
    with pytest.raises(ValueError, match="workers: expected"):
        list(run_cases(square, [1], ["1"], what="squares", workers=0))


calls: list[int] = []


def rows_of(case: int) -> list[dict[str, Any]]:
    calls.append(case)
    if case == 7 and not os.environ.get("CASE_7_IS_MENDED"):
        raise OSError("case 7: expected a readable file, got none. Fix: copy it.")
    return [{"case": case, "rater": rater, "volume": case / (rater + 1)} for rater in range(2)]


def run(dest: Path, cases: list[int], files: list[list[str]] | None = None) -> list[CaseOutcome[list[dict[str, Any]]]]:
    calls.clear()
    return write_case_rows(rows_of, cases, [str(n) for n in cases], files or [[] for _ in cases], dest, what="rows")


def test_a_bad_case_is_tried_again_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dest = tmp_path / "new" / "rows.csv"
    outcomes = run(dest, [1, 7, 9])
    assert [outcome.failure is None for outcome in outcomes] == [True, False, True]
    assert [row["case"] for row in csv.DictReader(dest.open())] == ["1", "1", "9", "9"]
    monkeypatch.setenv("CASE_7_IS_MENDED", "1")
    assert all(outcome.failure is None for outcome in run(dest, [1, 7, 9]))
    assert calls == [7]
    assert [row["case"] for row in csv.DictReader(dest.open())] == ["1", "1", "7", "7", "9", "9"]
    assert [path.name for path in dest.parent.iterdir()] == ["rows.csv"]


def test_a_killed_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dest, whole = tmp_path / "rows.csv", tmp_path / "whole.csv"
    run(whole, [1, 2, 3, 4])

    def stop(*arguments: Any) -> Any:
        for number, outcome in enumerate(run_cases(*arguments[:3], what="rows")):
            if number == 2:
                raise KeyboardInterrupt
            yield outcome

    monkeypatch.setattr(case_runner, "run_cases", lambda work, cases, names, **_: stop(work, cases, names))
    with pytest.raises(KeyboardInterrupt):
        run(dest, [1, 2, 3, 4])
    monkeypatch.undo()
    assert not dest.exists()
    # a line that the kill has cut off
    with open(f"{dest}.unfinished", "a") as file:
        file.write('{"case": "3", "ro')
    run(dest, [1, 2, 3, 4])
    assert calls == [3, 4]
    assert dest.read_bytes() == whole.read_bytes()


def test_a_case_whose_file_has_gone_is_computed_again(tmp_path: Path) -> None:
    """Case 7 fails, so that the rows of the others are kept."""
    dest, file = tmp_path / "rows.csv", tmp_path / "label.nii"
    file.touch()
    for there, expected in ((True, [7]), (False, [7, 9])):
        run(dest, [7, 8, 9])
        calls.clear()
        if not there:
            file.unlink()
        write_case_rows(
            rows_of, [7, 8, 9], ["7", "8", "9"], [[], [], []], dest, what="rows", written=lambda row: str(file) * (row["case"] == 9)
        )
        assert calls == expected


def test_what_has_changed_is_computed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run with a bad case keeps its rows. A case whose file or settings have changed since is not taken from there."""
    dest, file = tmp_path / "rows.csv", tmp_path / "prediction.nii"
    file.write_text("one")
    run(dest, [7, 8, 9], [[], [str(file)], []])
    monkeypatch.setenv("CASE_7_IS_MENDED", "1")
    file.write_text("another")
    run(dest, [7, 8, 9], [[], [str(file)], []])
    assert calls == [7, 8]
    monkeypatch.delenv("CASE_7_IS_MENDED")
    run(dest, [7, 8])
    calls.clear()
    # the name is that of another case now
    write_case_rows(rows_of, [7, 18], ["7", "8"], [[], []], dest, what="rows")
    assert calls == [7, 18]
    with pytest.raises(ValueError, match="names: expected each case once"):
        run(dest, [8, 8])


@pytest.mark.long
def test_a_dask_cluster_that_loses_a_worker(tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50) as cluster,
        distributed.Client(cluster) as client,
    ):
        cases = list(range(12))
        names = [str(n) for n in cases]
        got = []
        for outcome in run_cases(square, cases, names, what="squares", scheduler=cluster.scheduler_address):
            got.append(outcome)
            if len(got) == 2:
                os.kill(next(iter(client.run(os.getpid).values())), signal.SIGKILL)
        assert got == EXPECTED
        # a case that kills each worker that it is given to
        got = list(run_cases(square_or_die, cases, names, what="squares", scheduler=cluster.scheduler_address))
        assert got[4] == CaseOutcome("4", None, "its process died, perhaps of too little memory")
        assert [*got[:4], *got[5:]] == [*EXPECTED[:4], *EXPECTED[5:]]


def test_a_scheduler_needs_dask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ValueError, match=r"scheduler: expected the packages dask and distributed, .* Fix: pip install 'monai-jdt"):
        list(run_cases(square, [1], ["1"], what="squares", scheduler="tcp://127.0.0.1:1"))


def test_no_scheduler_at_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr(case_runner, "_SECONDS_TO_CONNECT", 1)
    with pytest.raises(ConnectionError, match="scheduler: expected a Dask scheduler at that address"):
        list(run_cases(square, [1], ["1"], what="squares", scheduler="tcp://127.0.0.1:1"))
