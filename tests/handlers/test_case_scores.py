"""The table of an evaluator's scores: its rows are what the metrics kept, by names of cases, regions and raters."""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Engine
from monai.handlers import from_engine

from monai_jdt.handlers import CaseScoresWriter, MeanSoftDice, MeanVolumeCRPS

REGIONS = {"core": (1,), "whole": (1, 2)}


@dataclass(frozen=True)
class Case:
    """A case of a list."""

    name: str
    plain: str
    patient: str
    raters: tuple[str, ...]
    files: tuple[str, ...]
    others: dict[str, str] = field(default_factory=dict)


def item(case: str, pred: Any, raters: Any, **others: str) -> dict[str, Any]:
    mask = torch.tensor(pred)
    return {"case": case, "prob": mask.float(), "pred": mask, "raters": torch.tensor(raters), **others}


# two regions of four voxels; the raters draw label values
FIRST = item("c1", [[1, 1, 0, 0], [1, 1, 1, 0]], [[1, 1, 2, 0], [1, 0, 0, 0]])
SECOND = item("c1", [[0, 0, 0, 0], [0, 0, 1, 0]], [[0, 0, 2, 2]], task="2")
CASES = [
    Case("c1 2", "c1", "p", ("Ann",), ("a.png",), {"task": "2"}),
    Case("c1", "c1", "p", ("Ann", "rater 2"), ("a.nii", "b.nii")),
]


def evaluator(items: list[dict[str, Any]]) -> Engine:
    def step(engine: Engine, one: Any) -> list[dict[str, Any]]:
        engine.state.batch = [one]  # type: ignore[assignment]
        return [one]

    engine = Engine(step)
    regions = [list(values) for values in REGIONS.values()]
    transform = from_engine(["prob", "raters"])
    MeanSoftDice(votes=True, regions=regions, output_transform=transform).attach(engine, "val_soft")
    return engine


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_rows_are_scores_by_case_region_and_rater(tmp_path: Path) -> None:
    engine = evaluator([])
    scores = {"soft_dice": "val_soft"}
    CaseScoresWriter(tmp_path / "new" / "t.csv", scores, REGIONS, CASES, model="ours", votes_key="raters").attach(engine)
    engine.run([FIRST, SECOND])
    rows = rows_of(tmp_path / "new" / "t.csv")
    assert list(rows[0]) == ["model", "case", "patient", "region", "rater", "score", "value"]
    found = {(row["case"], row["region"], row["rater"], row["score"]): float(row["value"]) for row in rows}
    assert {(row["model"], row["patient"]) for row in rows} == {("ours", "p")}
    # the order of the list, not that of the run
    assert list(dict.fromkeys(row["case"] for row in rows)) == ["c1 2", "c1"]
    expected = {
        ("c1", "core", "Ann", "dice"): 1.0,
        ("c1", "core", "rater 2", "dice"): 2 / 3,
        ("c1", "core", "", "dice_raters"): 5 / 6,
        ("c1", "whole", "Ann", "dice"): 1.0,
        ("c1", "whole", "rater 2", "dice"): 2 / 4,
        ("c1", "whole", "", "dice_raters"): 3 / 4,
        # mean of the raters 1, .5, 0, 0 against 1, 1, 0, 0: 1 - .5 / 3.5
        ("c1", "core", "", "soft_dice"): 6 / 7,
        # 1, .5, .5, 0 against 1, 1, 1, 0: 1 - 1 / 5
        ("c1", "whole", "", "soft_dice"): 4 / 5,
        ("c1 2", "core", "Ann", "dice"): float("nan"),
        ("c1 2", "core", "", "dice_raters"): float("nan"),
        ("c1 2", "core", "", "soft_dice"): float("nan"),
        ("c1 2", "whole", "Ann", "dice"): 2 / 3,
        ("c1 2", "whole", "", "dice_raters"): 2 / 3,
        ("c1 2", "whole", "", "soft_dice"): 2 / 3,
    }
    assert found == pytest.approx(expected, abs=1e-6, nan_ok=True)


def test_without_cases_the_table_has_the_names_of_the_batches(tmp_path: Path) -> None:
    engine = evaluator([])
    CaseScoresWriter(tmp_path / "t.csv", {"soft": "val_soft"}, ["core", "whole"]).attach(engine)
    engine.run([FIRST])
    assert [list(row.values())[:3] for row in rows_of(tmp_path / "t.csv")] == [["c1", "core", "soft"], ["c1", "whole", "soft"]]


def test_names_that_are_no_text_are_written_as_escapes(tmp_path: Path) -> None:
    engine = evaluator([])
    CaseScoresWriter(tmp_path / "t.csv", {"soft": "val_soft"}, ["core", "whole"]).attach(engine)
    engine.run([{**FIRST, "case": "a\udcff"}])
    assert {row["case"] for row in rows_of(tmp_path / "t.csv")} == {r"a\udcff"}


def test_pictures_have_volumes_in_voxels(tmp_path: Path) -> None:
    engine = evaluator([])
    flat = [{**one, **{key: one[key][:, None] for key in ("prob", "pred", "raters")}} for one in (FIRST, SECOND)]
    regions = [list(values) for values in REGIONS.values()]
    volume = MeanVolumeCRPS(regions=regions, spacing=[1.0, 1.0], output_transform=from_engine(["prob", "raters"]))
    names = {"volume_error": "volume_error_voxels"}
    CaseScoresWriter(tmp_path / "t.csv", {"volume_error": volume}, REGIONS, CASES, in_voxels=names).attach(engine)
    engine.run(flat)
    found = {(row["case"], row["region"], row["score"]): float(row["value"]) for row in rows_of(tmp_path / "t.csv")}
    # one rater with 2 voxels of the whole, predicted 1: an error of 1. In cm2, 1 mm2 is .01
    assert found["c1 2", "whole", "volume_error_voxels"] == pytest.approx(1)
    assert found["c1 2", "core", "volume_error_voxels"] == 0
    # raters of 2 and 1 voxels, predicted 2: the integral of (F - 1)^2 from 1 to 2 is .25
    assert found["c1", "core", "volume_error"] == pytest.approx(0.0025)


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    def run(**options: Any) -> None:
        engine = evaluator([])
        CaseScoresWriter(tmp_path / "t.csv", **{"scores": {"soft": "val_soft"}, "regions": REGIONS, **options}).attach(engine)
        engine.run([FIRST])

    with pytest.raises(ValueError, match=r"scores, val_hard: expected details of shape \(1, 2\), a row for each case, got none"):
        run(scores={"hard": "val_hard"})
    with pytest.raises(ValueError, match=r"scores, val_soft: expected details of shape \(1, 1\), a row for each case, got shape"):
        run(regions=["all"])
    with pytest.raises(ValueError, match="cases: expected every case of the evaluator's data, got none called 'c1'"):
        run(cases=CASES[:1])
    with pytest.raises(ValueError, match="votes_key: expected cases and regions"):
        run(votes_key="raters")
    assert not (tmp_path / "t.csv").exists()
