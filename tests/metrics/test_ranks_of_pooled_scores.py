"""Scores pooled over a data set by two real processes, of which one may have no case, equal those of one process."""

import os
import warnings
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from monai_jdt.metrics import FineGrainedOverlap, RaterCalibrationError
from tests.metrics.rater_cases import RaterCase, rater_case
from tests.present import tensor_of

#: The seeds of the cases of the first rank and the second: one has more, or all.
SHARDS = {"uneven": ((0, 3), (6,)), "one without a case": ((0, 3, 6), ())}


def metrics() -> dict[str, FineGrainedOverlap | RaterCalibrationError]:
    return {
        "overlap": FineGrainedOverlap(reduction="none", discretize="argmax"),
        "calibration": RaterCalibrationError(reduction="none", against="raters", classwise=True, ignore_index=7),
    }


def score(found: dict[str, FineGrainedOverlap | RaterCalibrationError], case: RaterCase) -> None:
    hard = torch.nn.functional.one_hot(case.votes[:, 0].long().remainder(7), 3).movedim(-1, 1)
    found["overlap"](case.prob, hard)
    found["calibration"](list(case.prob), list(case.votes), case.weights)


def _score_part(rank: int, folder: str, shards: Sequence[Sequence[int]]) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2, timeout=timedelta(seconds=60))
    try:
        found = metrics()
        for seed in shards[rank]:
            score(found, rater_case("classes silent", seed))
        for name, metric in found.items():
            torch.save(metric.aggregate(), f"{folder}/{name}{rank}.pt")
        dist.barrier()
    finally:
        dist.destroy_process_group()


@pytest.mark.long
@pytest.mark.parametrize("shards", SHARDS.values(), ids=SHARDS)
def test_two_processes_pool_what_one_process_does(tmp_path: Path, shards: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    if Path("/sys/class/net/lo").exists():
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    mp.spawn(_score_part, (str(tmp_path), shards), nprocs=2)
    alone = metrics()
    for seed in sum(shards, ()):
        score(alone, rater_case("classes silent", seed))
    for name, metric in alone.items():
        expected = tensor_of(metric.aggregate())
        assert expected.shape == (3,)
        assert not expected.isnan().any()
        for rank in range(2):
            torch.testing.assert_close(torch.load(tmp_path / f"{name}{rank}.pt"), expected, rtol=0, atol=1e-15)
