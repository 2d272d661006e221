"""Torch's own threads as a team: who takes part, and where it must not be asked."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import torch

from monai_jdt.kernels.numba import threads, torch_team
from monai_jdt.kernels.numba.threads import share_out

pytestmark = pytest.mark.skipif(torch_team.team_of_torch() is None, reason="torch brings no OpenMP library that can be asked")


@pytest.fixture(autouse=True)
def _asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The team is asked, even if its threads came late in a test before."""
    monkeypatch.setattr(threads, "_left_to_pool", 0)
    monkeypatch.setattr(threads, "_next_left", threads._FEWEST_BY_POOL)


@pytest.mark.parametrize("members", [1, 2, 4])
def test_each_member_takes_part_once(members: int) -> None:
    """Not the threads that are not wanted, and each in a thread of its own."""
    torch.set_num_threads(4)
    team = torch_team.team_of_torch()
    assert team is not None
    for _ in range(20):
        took_part: list[tuple[int, int]] = []
        team(members, lambda member, took_part=took_part: took_part.append((member, threading.get_ident())))  # type: ignore[misc]
        assert sorted(number for number, _ in took_part) == list(range(members))
        assert len({thread for _, thread in took_part}) == members
        assert (0, threading.get_ident()) in took_part


def test_torch_keeps_its_threads() -> None:
    """A team of fewer threads than torch's would end the others: torch's next operation would have to start new ones."""
    torch.set_num_threads(4)
    many = torch.randn(1 << 20)
    many + 1
    before = _system_threads()
    team = torch_team.team_of_torch()
    assert team is not None
    for _ in range(10):
        team(2, lambda member: None)
        assert _system_threads() == before


def _system_threads() -> set[str]:
    from pathlib import Path

    return {path.name for path in Path("/proc/self/task").iterdir()}


def test_a_lost_task_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a member's error finds nobody who keeps it, the result is not taken for whole."""

    def deaf(members: int, take_part: object) -> None:
        """A team none of whose members came to its first line."""

    monkeypatch.setattr(threads, "team_of_torch", lambda: deaf)
    torch.set_num_threads(2)
    with pytest.raises(KeyboardInterrupt):
        share_out(4, lambda numbers: None, at_once=True)


def test_threads_that_come_late_are_left_alone_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when another program keeps a thread of torch's from its core: the caller would wait for it at each call."""
    asked: list[int] = []
    is_late = True

    def late(members: int, take_part: Callable[[int], None]) -> None:
        asked.append(call)
        take_part(0)
        take_part(1)
        time.sleep(0.01 * is_late)

    monkeypatch.setattr(threads, "team_of_torch", lambda: late)
    torch.set_num_threads(2)
    for call in range(20):
        is_late = call < 15
        done: list[int] = []
        share_out(4, done.extend, at_once=True)
        assert sorted(done) == [0, 1, 2, 3]
    # late, then 4 calls by the pool, late, then 8, late, then 16
    assert asked == [0, 5, 14]
    assert threads._left_to_pool == 16 - 5


def test_an_error_drops_the_tasks_that_are_left() -> None:
    torch.set_num_threads(2)
    done = []

    def work(numbers: Iterator[int]) -> None:
        for number in numbers:
            if number == 0:
                raise ZeroDivisionError
            threading.Event().wait(0.02)
            done.append(number)

    with pytest.raises(ZeroDivisionError):
        share_out(100, work, at_once=True)
    assert len(done) < 50


FORKED = """
import os
import torch
from monai_jdt.kernels.numba.threads import share_out

torch.set_num_threads(3)
done = []
share_out(9, done.extend, True)
child = os.fork()
if child == 0:
    done = []
    share_out(9, done.extend, True)
    os._exit(0 if sorted(done) == list(range(9)) else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), sorted(done) == list(range(9)))
"""


def test_a_forked_child_does_not_wait_for_threads_that_it_has_not() -> None:
    done = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["0", "True"], done.stderr
