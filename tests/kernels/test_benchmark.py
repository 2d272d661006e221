"""The benchmark of kernels ends with a table and a picture, and refuses to measure a kernel that is wrong."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import contenders, kernels, sizes
from benchmarks.contenders import Case
from monai_jdt.kernels.registry import KERNELS


@pytest.mark.parametrize("form", ["soft", "index", "votes"])
def test_the_contenders_compute_what_they_are_called(form: str) -> None:
    case = Case(form, 3, 5, 2)
    logits, label = case.tensors()
    ways = contenders.contenders(case)
    assert float(ways["eager"](logits, label).detach()) == pytest.approx(
        float(ways["the papers' way"](logits, label).detach()), rel=1e-5
    )
    if form == "index":
        # hard labels: MONAI's Dice without background is nnU-Net's, up to the sign and 1
        onehot = torch.zeros_like(logits).scatter_(1, label, 1.0)
        p = logits.detach().softmax(1)
        dice = [2 * float((p[:, c] * onehot[:, c]).sum()) / float(p[:, c].sum() + onehot[:, c].sum()) for c in (1, 2)]
        expected = float(torch.nn.functional.cross_entropy(logits, label[:, 0])) - sum(dice) / 2
        assert float(ways["nnU-Net's way"](logits, label).detach()) == pytest.approx(expected, abs=1e-5)


def test_a_wrong_kernel_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    right = contenders.contenders

    def wrong(case: Case) -> dict[str, contenders.Loss]:
        ways = right(case)
        return {**ways, "chunked": lambda logits, label: ways["eager"](logits, label) * 1.0001}

    monkeypatch.setattr(kernels, "contenders", wrong)
    monkeypatch.setattr(kernels, "OURS", ("eager", "chunked"))
    with pytest.raises(AssertionError, match="chunked"):
        kernels.check_parity(Case("soft", 3, 5, 1))


def test_what_a_first_use_costs() -> None:
    row = kernels.first_use("chunked")
    assert 0 < row["trial_s"] < 60
    assert 0 < row["first_step_s"] < 60
    assert row["found"] == "agrees with eager"
    row = kernels.first_use("chunked", "meta")
    assert row["first_step_s"] is None
    assert "meta" in row["found"]


@pytest.mark.long
def test_one_command_writes_table_and_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(kernels.CASES, "goals", [Case("soft", 3, 16, 1), Case("votes", 3, 16, 1)])
    only = ["eager", "chunked", "MONAI DiceCELoss"]
    monkeypatch.setattr(
        sys, "argv", ["kernels.py", str(tmp_path), "--rounds", "2", "--allocators", "default", "--only", ";".join(only)]
    )
    kernels.main()
    with (tmp_path / "kernels.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    assert [row["contender"] for row in rows] == [*only, "floor"] * 2
    assert all(float(row["p50_ms"]) > 0 for row in rows)
    assert all(row["commit"] and row["torch"] and row["cpu"] for row in rows)
    assert all(float(row["memory_over_logits"]) >= 0.9 for row in rows if row["contender"] != "floor")
    assert (tmp_path / "goals.png").stat().st_size > 5000
    with (tmp_path / "first_use.csv").open() as lines:
        assert [row["kernel"] for row in csv.DictReader(lines) if row["device"] == "cpu"] == [kernel.value for kernel in KERNELS]


def test_sizes_are_measured_written_and_drawn(tmp_path: Path) -> None:
    rows = []
    for case in (sizes.Sized("soft", (2, 4, 3, 3, 3)), sizes.Sized("votes", (2, 4, 3, 3, 3)), sizes.Sized("index", (1, 4, 5, 5))):
        about = {"threads": 1, "form": case.form, "shape": "x".join(map(str, case.shape)), "logits": case.logits}
        rows += [{**about, **row} for row in sizes.time_in_turns(sizes.contenders(case), 0)]
    assert [row["base_over_it"] for row in rows if row["contender"] == sizes.BASE] == [1, 1, 1]
    assert {"auto", "auto, without numba", "eager", "MONAI DiceLoss"} < {row["contender"] for row in rows}
    sizes.write(rows, tmp_path / "sizes.csv")
    sizes.draw(rows, tmp_path / "sizes.png")
    assert len((tmp_path / "sizes.csv").read_text().splitlines()) == len(rows) + 1
    assert (tmp_path / "sizes.png").stat().st_size > 5000
    assert max(case.logits for case in sizes.cases(1.1e8)) > 9.9e7
    assert all(row["p50_ms"] > 0 for row in sizes.time_in_turns(dict(list(sizes.every_loss().items())[:3]), 0))
