"""The study of nnU-Net on votes: scores by arithmetic, plans for a CPU, and a table that compares case by case."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import nnunet_raters
from monai_jdt.losses import JDTCELoss
from monai_jdt.nnunet.votes_loss import VotesLoss
from tests.nnunet.tiny_data import tiny_plans


def test_scores_are_those_of_one_region() -> None:
    votes = torch.tensor([[1, 2, 0, 0], [2, 0, 0, 0]]).reshape(2, 2, 2, 1)
    prob = np.array([0.75, 0.5, 0.25, 0.0], np.float32).reshape(2, 2, 1)
    scores = nnunet_raters.scores_of(prob, votes, (1, 2))
    # shares of raters: 1, .5, 0, 0
    assert scores["distance"] == pytest.approx((0.25 + 0 + 0.25 + 0) / 4)
    # each rater's squared error, a rater at a time: (.25^2 + .5^2 + .25^2) / 4 both times
    assert scores["brier"] == pytest.approx((0.0625 + 0.25 + 0.0625) / 4)
    # both sides of the threshold .5 hold the first voxel alone
    assert scores["dice_majority"] == 1
    assert scores["majority_empty"] == 0


def test_plans_keep_what_the_data_ask_for() -> None:
    plans = tiny_plans((40, 64, 64))
    network = plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]
    network |= {"n_stages": 5, "strides": [[1, 1, 1], [1, 2, 2], *[[2, 2, 2]] * 3], "kernel_sizes": [[1, 3, 3], *[[3, 3, 3]] * 4]}
    smaller = nnunet_raters.smaller_plans(plans)["configurations"]
    assert list(smaller) == ["3d_fullres"]
    settings = smaller["3d_fullres"]
    assert settings["architecture"]["arch_kwargs"]["features_per_stage"] == [8, 16, 32, 64]
    assert settings["architecture"]["arch_kwargs"]["kernel_sizes"] == [[1, 3, 3], *[[3, 3, 3]] * 3]
    assert settings["patch_size"] == [16, 32, 32]  # the strides are 4, 8, 8 together
    assert settings["spacing"] == [2.0, 2.0, 2.0]


def test_the_table_compares_case_by_case() -> None:
    rows = []
    for kind, gain in (("majority", 0.0), ("votes", 0.1)):
        for seed in (0, 1):
            for case in range(4):
                about = {"set": "x", "trainer": kind, "seed": str(seed), "case": f"c{case}", "patient": f"p{case // 2}", "region": "r"}
                value = str(case / 10 + seed / 100 + gain)
                rows.append(about | dict.fromkeys(nnunet_raters.SCORES, value))
    text = nnunet_raters.table(rows, "x", (0, 1))
    assert text.startswith("**x: 4 test cases of 2 patients**")
    # mean of 0, .1, .2, .3 and of the seeds' 0 and .01; two patients, whose means are .055 and .255
    assert (
        "| 0.155 [0.055, 0.255] (0.150 to 0.160) | 0.255 [0.155, 0.355] (0.250 to 0.260) | +0.100 [+0.100, +0.100] (+0.100 to +0.100) |"
        in text
    )


def test_the_majority_is_the_one_vote_of_the_votes_trainer(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = pytest.importorskip("monai_jdt.nnunet.trainer").nnUNetTrainerJDT
    loss = JDTCELoss(softmax=True, include_background=False, votes=True)
    monkeypatch.setattr(trainer, "_build_loss", lambda self: VotesLoss(loss))
    made: Any = nnunet_raters.short_trainer(nnunet_raters.ANY_RATER["majority"], 1)
    built = made._build_loss(None)
    logits = torch.randn(1, 2, 4, 4, 4)
    target = torch.randint(0, 2, (1, 4, 4, 4, 4))
    label = target[:, :1]
    torch.testing.assert_close(built(logits, target), loss(logits, label, rater_weights=torch.ones(1, 1)))
    assert "_build_loss" not in vars(nnunet_raters.short_trainer("votes", 1))


def test_the_table_of_patches_has_each_seeds_mean() -> None:
    kinds = ("majority", "votes", *nnunet_raters.ANY_RATER.values())
    rows = [
        {"set": "x", "trainer": kind, "seed": str(seed), "brier": str((10 * number + seed + case) / 1000)}
        for number, kind in enumerate(kinds)
        for seed in (0, 1)
        for case in (0, 1)
    ]
    lines = nnunet_raters.patches_table(rows, "x", (0, 1)).splitlines()
    assert lines[-2:] == ["| majority | 0.5, 1.5 | 20.5, 21.5 |", "| votes | 10.5, 11.5 | 30.5, 31.5 |"]


@pytest.mark.parametrize("patches", [False, True])
def test_tables_of_both_studies_lie_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, patches: bool) -> None:
    monkeypatch.setattr(os, "environ", dict(os.environ))
    monkeypatch.setattr(nnunet_raters, "prepare", lambda *given: None)

    def scored(name: str, kind: str, seed: int, out: Path, iterations: int) -> None:
        about = {"set": name, "trainer": kind, "seed": seed, "case": "c", "patient": "p", "region": "r"}
        nnunet_raters.write_rows(out / f"{name}_{kind}_{seed}_{iterations}.csv", [about | dict.fromkeys(nnunet_raters.SCORES, 0.5)])

    monkeypatch.setattr(nnunet_raters, "run", scored)
    nnunet_raters.study(tmp_path, None, ["lidc"], [0], 50, patches)
    stem = "nnunet_raters_patches" if patches else "nnunet_raters"
    assert sorted(path.name for path in tmp_path.glob("nnunet_raters*")) == [f"{stem}.csv", f"{stem}.md"]
    assert len((tmp_path / f"{stem}.csv").read_text().splitlines()) == 1 + (4 if patches else 2)
