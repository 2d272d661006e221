"""Every metric's handler on two real processes: with uneven parts, and where one has no case, what one process computes."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from ignite.engine import Engine, Events
from monai.handlers import from_engine

import monai_jdt.handlers
from monai_jdt.handlers import CaseScoresWriter
from tests.metrics.rater_cases import rater_case
from tests.metrics.test_default_device import METRICS
from tests.metrics.test_image_scores import BY_SAMPLES, OWN

#: The seeds of the batches of the first rank and the second: one has more, or all.
SHARDS: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "uneven": ((0, 3), (6,)),
    "first idle": ((), (0, 3, 6)),
    "last idle": ((0, 3, 6), ()),
}
KEYS = {
    "RaterAgreement": ["votes"],
    "FineGrainedOverlap": ["prob", "hard"],
    "ExpectedOverlap": ["prob", "hard"],
    "LesionWiseOverlap": ["mask", "hard"],
    **{name: ["samples", "votes", "weights"] for name in BY_SAMPLES},
}
#: Options beside those of `METRICS`, and what is scored: votes with abstentions, and results with one number per class.
OF_CLASSES: tuple[tuple[str, dict[str, Any], list[str]], ...] = (
    ("FineGrainedOverlap", {"discretize": "argmax", "reduction": "none"}, ["prob", "hard"]),
    (
        "RaterCalibrationError",
        {"level": "dataset", "against": "raters", "classwise": True, "ignore_index": 7, "reduction": "none"},
        ["prob", "silent", "weights"],
    ),
    ("ThresholdedDice", {"votes": True, "reduction": "mean_batch"}, ["prob", "votes", "weights"]),
)


def batch(seed: int) -> list[dict[str, Any]]:
    """Two images, as an evaluator decollates them."""
    case = rater_case("classes", seed, equal=True)
    hard = torch.stack([(case.votes[:, 0] == c).int() for c in range(3)], 1)
    silent = case.votes.clone()
    silent[0, 1] = silent[1, ..., 0] = 7  # one rater nowhere has an opinion, and at one voxel none has
    weights = [None, None] if case.weights is None else list(case.weights)
    return [
        {
            "case": f"{seed}, {i}",
            "prob": case.prob[i],
            "mask": (case.prob[i] > 0.3).int(),
            "samples": case.samples[i],
            "votes": case.votes[i],
            "hard": hard[i],
            "silent": silent[i],
            "weights": weights[i],
        }
        for i in range(2)
    ]


def computed(seeds: Sequence[int], table: Path) -> dict[str, Any]:
    """Run an evaluator with a handler for each row of `METRICS`, and return what they compute and keep."""
    engine = Engine(lambda _, items: items)
    for name, each in METRICS.items():
        handler = getattr(monai_jdt.handlers, f"Mean{name}", None) or getattr(monai_jdt.handlers, f"{name}Handler")
        for number, options in enumerate(each):
            own = {key: value for key, value in OWN.get(name, {}).items() if key not in options}
            transform = from_engine(KEYS.get(name, ["prob", "votes", "weights"]))
            handler(output_transform=transform, **own, **options).attach(engine, f"{name} {number}")
    for name, options, keys in OF_CLASSES:
        handler = getattr(monai_jdt.handlers, f"Mean{name}", None) or getattr(monai_jdt.handlers, f"{name}Handler")
        handler(output_transform=from_engine(keys), **options).attach(engine, f"{name} of classes")
    CaseScoresWriter(table, {"soft": "SoftDice 0", "brier": "RaterBrierScore 0"}, ["a", "b", "c"], mask_key="mask").attach(engine)
    if seeds:
        engine.run([batch(seed) for seed in seeds])
    else:  # ignite refuses a run without a batch. These are the events of one
        for event in (Events.STARTED, Events.EPOCH_STARTED, Events.EPOCH_COMPLETED, Events.COMPLETED):
            engine.fire_event(event)
    return {"scores": dict(engine.state.metrics), "details": dict(vars(engine.state)["metric_details"])}


def _in_rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2, timeout=timedelta(seconds=120))
    try:
        for name, shards in SHARDS.items():
            torch.save(computed(shards[rank], Path(folder, f"{name}.csv")), f"{folder}/{name}{rank}.pt")
        dist.barrier()
    finally:
        dist.destroy_process_group()


@pytest.mark.long
def test_two_processes_compute_what_one_does(tmp_path: Path) -> None:
    if Path("/sys/class/net/lo").exists():
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    mp.spawn(_in_rank, (str(tmp_path),), nprocs=2)  # one start for all, since it takes seconds
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        alone = computed((0, 3, 6), tmp_path / "alone.csv")
    assert len(alone["scores"]) == sum(map(len, METRICS.values())) + len(OF_CLASSES)
    assert all(alone["scores"][f"{name} of classes"].shape == (3,) for name, *_ in OF_CLASSES)
    assert not any(torch.as_tensor(score).isnan().any() for score in alone["scores"].values())
    for name in SHARDS:
        for rank in range(2):
            found = torch.load(tmp_path / f"{name}{rank}.pt")
            assert found["scores"].keys() == alone["scores"].keys()
            for kind, expected in alone.items():
                for metric, value in expected.items():
                    torch.testing.assert_close(
                        found[kind][metric], value, rtol=1e-12, atol=1e-15, equal_nan=True, msg=f"{name}: {metric}"
                    )
        assert (tmp_path / f"{name}.csv").read_bytes() == (tmp_path / "alone.csv").read_bytes()
