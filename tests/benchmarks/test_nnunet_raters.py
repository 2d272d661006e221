"""The study of nnU-Net on votes: scores by arithmetic, plans for a CPU, and a table that compares case by case."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import nnunet_raters
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


def test_label_patches_are_nnunets_on_the_data_with_raters(tmp_path: Path) -> None:
    for plans in ("nnUNetPlans", "nnUNetPlansRaters"):
        folder = tmp_path / f"{plans}_3d_fullres"
        folder.mkdir()
        for name in ("a.b2nd", "a.pkl"):
            (folder / name).write_text(plans)
    made = tmp_path / nnunet_raters.label_patches(tmp_path)
    assert {path.name: path.read_text() for path in made.iterdir()} == {"a.b2nd": "nnUNetPlansRaters", "a.pkl": "nnUNetPlans"}
