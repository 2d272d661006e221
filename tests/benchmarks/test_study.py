"""The study: its sets have parts of different patients, its cells are bundles with overlays, its intervals and p-values are right."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats

from benchmarks.study import __main__ as study
from benchmarks.study import cells, sets, tables, tune
from benchmarks.study import predict as keeping
from benchmarks.study import results as kept
from benchmarks.study.cells import CELLS, Cell
from benchmarks.study.estimates import ScoreTable, _means, estimate, holm, table_of
from benchmarks.study.losses import FixedDenominatorLoss, ScheduledLoss, SumOfLosses
from benchmarks.study.processes import perform_all
from benchmarks.study.run import Run, perform, write_rows
from benchmarks.study.scores import ScoredCase, bins_of, chosen, scores
from benchmarks.study.sets import DIFFICULTIES, PARTS, SETS, Difficulty, write_chase, write_phantoms
from monai_jdt.data import RaterStyle, read_datalist
from monai_jdt.metrics import FineGrainedOverlap

KEY, OTHER = ("unet", "one"), ("unet", "other")


@pytest.fixture
def few_phantoms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sets, "VALIDATION_CASES", 2)
    monkeypatch.setattr(sets, "TEST_CASES", 3)
    for name, difficulty in DIFFICULTIES.items():
        monkeypatch.setitem(DIFFICULTIES, name, replace(difficulty, training=4))


# ------------------------------------------------------------------------------------------------------------------ sets


@pytest.mark.usefixtures("few_phantoms")
def test_phantoms_of_a_part_do_not_depend_on_the_number_of_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_phantoms(Path(), tmp_path / "a", name="plain")
    monkeypatch.setitem(DIFFICULTIES, "plain", replace(DIFFICULTIES["plain"], training=2))
    write_phantoms(Path(), tmp_path / "b", name="plain")
    for file in ("image", "rater3", "probability"):
        one, two = (nibabel.load(tmp_path / part / "cases" / "test_001" / f"{file}.nii.gz").get_fdata() for part in "ab")  # type: ignore[attr-defined]
        assert np.array_equal(one, two)


@pytest.mark.usefixtures("few_phantoms")
def test_a_small_organ_is_small_and_marked_where_its_probability_is(tmp_path: Path) -> None:
    (file,) = write_phantoms(Path(), tmp_path, name="small")
    assert {part: len(read_datalist(file, part)) for part in PARTS} == {"training": 4, "validation": 2, "test": 3}
    for item in read_datalist(file, "test"):
        probability = nibabel.load(item["probability"]).get_fdata()  # type: ignore[attr-defined]
        share = np.mean([nibabel.load(path).get_fdata() for path in item["raters"]], axis=0)  # type: ignore[attr-defined]
        assert probability.shape == (64, 64)
        assert 10 < probability.sum() < 150
        assert np.abs(share - probability).mean() < 0.01


@pytest.mark.usefixtures("few_phantoms")
def test_a_rare_organ_is_a_structure_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sets, "TEST_CASES", 30)
    (file,) = write_phantoms(Path(), tmp_path, name="imbalance")
    rare = 0
    for item in read_datalist(file, "test"):
        assert "probability" not in item
        votes = np.stack([nibabel.load(path).get_fdata() for path in item["raters"]])  # type: ignore[attr-defined]
        assert votes.shape == (5, 64, 64)
        edge = DIFFICULTIES["imbalance"].edge
        assert not (votes[:, :, edge:] == 1).any()
        assert not (votes[:, :, :edge] == 2).any()
        assert (votes == 1).any((1, 2)).all()
        rare += (votes == 2).any()
    assert 2 <= rare <= 14


def test_raters_may_be_missing_but_not_all_of_a_case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    styles = tuple(RaterStyle(str(number), presence=0.3) for number in range(2))
    monkeypatch.setitem(DIFFICULTIES, "missing", Difficulty(styles, training=12))
    monkeypatch.setattr(sets, "VALIDATION_CASES", 1)
    monkeypatch.setattr(sets, "TEST_CASES", 1)
    (file,) = write_phantoms(Path(), tmp_path, name="missing")
    raters = [len(item["raters"]) for item in read_datalist(file, "training")]
    assert set(raters) == {1, 2}
    assert len(raters) == 12


def test_chase_has_five_folds_of_different_patients(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sets, "TILE", 8)
    monkeypatch.setattr(sets, "TILES", 2)
    folder = tmp_path / "chase_db1"
    folder.mkdir()
    for patient in range(1, 11):
        bright = np.full((20, 20, 3), 100, dtype=np.uint8)
        bright[:8, :8] = 0  # a tile without a fundus
        Image.fromarray(bright).save(folder / f"Image_{patient:02d}L.jpg", quality=100)
        for number, name in enumerate(("1stHO", "2ndHO")):
            mark = np.zeros((20, 20), dtype=bool)
            mark[:, 9 + number] = True
            Image.fromarray(mark).save(folder / f"Image_{patient:02d}L_{name}.png")
    lists = write_chase(tmp_path, tmp_path / "files")
    tested: list[str] = []
    for file in lists:
        patients = {part: {item["patient"] for item in read_datalist(file, part)} for part in PARTS}
        assert [len(patients[part]) for part in PARTS] == [6, 2, 2]
        assert len(set.union(*patients.values())) == 10
        tested += patients["test"]
    assert sorted(tested) == [f"{patient:02d}" for patient in range(1, 11)]
    items = read_datalist(lists[0], "test")
    assert len(items) == 2 * 3
    first, second = (np.asarray(Image.open(path)) for path in items[0]["raters"])
    assert first.max() == 1
    assert first[:, 1].all()
    assert second[:, 2].all()


def test_a_set_without_its_data_names_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"--data: expected a folder with lidc/lidc3d.npz, got None"):
        SETS["lidc3d"].lists(None, tmp_path)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--sets", "lidc3d"], "--data: expected a folder with lidc/lidc3d.npz, got None"),
        (["--sets", "phantom plane"], "--sets: expected some of lidc2d, "),
        (["--sets", "phantom plain", "--cells", "norm=2"], "--cells: expected a part of a cell's name in the tables"),
    ],
)
def test_a_command_that_names_nothing_ends_in_one_line(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sets, "write_phantom", lambda folder, index, difficulty: folder.mkdir())
    monkeypatch.setattr(sets, "item_of", lambda folder: {"case": folder.name, "patient": "p", "image": "i", "raters": ["r"]})
    monkeypatch.setattr("sys.argv", ["study", str(tmp_path), *arguments])
    with pytest.raises(SystemExit, match="2"):
        study.main()
    assert said in capsys.readouterr().err.splitlines()[-1]


# ----------------------------------------------------------------------------------------------------------------- cells


def test_cells_have_folders_of_their_own_and_overlays_that_are_there(tmp_path: Path) -> None:
    assert len({cell.slug for cell in CELLS}) == len(CELLS)
    for cell in CELLS:
        assert all(Path(file).is_file() for file in Run(cell, 0, (tmp_path,), tmp_path, {}).files()), cell


def test_the_planned_comparisons_are_of_cells_of_every_set() -> None:
    for name in SETS:
        names = {cell.name for cell in CELLS if cell.set == name}
        assert {part for first, second, *_ in tables.PLANNED for part in (first, second)} <= names


def test_a_fixed_denominator_is_smallest_at_the_mean() -> None:
    """What a ratio is not: 60 voxels labelled .25 and 40 labelled 1 look alike."""
    label = torch.cat([torch.full((60,), 0.25), torch.ones(40)])
    label = torch.stack([1 - label, label])[None]
    logit = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([logit], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = FixedDenominatorLoss()(torch.stack([torch.zeros(100), logit.expand(100)])[None], label.double())
        loss.backward()
        return loss

    optimizer.step(closure)
    assert float(torch.sigmoid(logit)) == pytest.approx(label[0, 1].mean().item(), abs=1e-3)


def test_a_sum_weighs_and_a_schedule_goes_from_one_loss_to_the_other() -> None:
    one, two = torch.nn.L1Loss(), torch.nn.MSELoss()
    x, y = torch.full((4,), 3.0, requires_grad=True), torch.zeros(4)
    assert float(SumOfLosses([one, two], [0.5, 2.0])(x, y)) == 0.5 * 3 + 2 * 9
    loss = ScheduledLoss(one, two, 2)
    assert [float(loss(x, y)) for _ in range(4)] == [3, 6, 9, 9]
    again = ScheduledLoss(one, two, 2)
    first = ScheduledLoss(one, two, 2)
    first(x, y)
    again.load_state_dict(first.state_dict())
    assert float(again(x, y)) == 6
    validated = ScheduledLoss(one, two, 2)
    assert float(validated(x.detach(), y)) == float(validated(x, y)) == 3


# ---------------------------------------------------------------------------------------------------------------- scores


def case(prob: Sequence[float], votes: Sequence[Sequence[int]], truth: Sequence[float] | None = None) -> ScoredCase:
    given = None if truth is None else torch.tensor([truth])
    return ScoredCase("c", "p", "s", torch.tensor([prob]), torch.tensor([votes]) == 1, given, 2.0)


def test_scores_of_a_case_by_hand() -> None:
    one = case([0.9, 0.6, 0.2, 0.0], [[1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 1, 0]], [1.0, 0.5, 0.5, 0.0])
    found = scores(one, chosen([one]))
    assert found["readers_volume"] == pytest.approx(2 * 2.0)
    assert found["volume"] == pytest.approx(1.7 * 2)
    assert (found["majority"], found["right_half"], found["marked_half"], found["dice_half"]) == (2, 2, 2, 1)
    errors = [(0.1**2) * 3, 2 * 0.4**2 + 0.6**2, 2 * 0.2**2 + 0.8**2, 0]
    assert found["brier"] == pytest.approx(sum(errors) / 12)
    assert found["spread"] == pytest.approx((0 + 2 / 9 + 2 / 9 + 0) / 4)
    assert found["truth_error"] == pytest.approx((0.1 + 0.1 + 0.3) / 4)
    assert found["nll_spread"] == pytest.approx(-(2 / 3 * np.log(2 / 3) + 1 / 3 * np.log(1 / 3)) * 2 / 4, rel=1e-3)
    assert bins_of([one]).shape[0] == 1


def test_a_case_has_a_score_for_each_structure() -> None:
    item = {"case": "c", "patient": "p", "spacing": [2.0, 3.0]}
    prob = torch.tensor([[0.1, 0.7, 0.2], [0.8, 0.1, 0.0]])
    found = {"prob": prob, "raters": torch.tensor([[2, 1, 0], [3, 0, 0]])}
    first, second = ScoredCase.all_of(item, found, {"one": [1], "other": [2, 3]})
    assert (first.structure, second.structure, first.voxel, first.truth) == ("one", "other", 6.0, None)
    assert torch.equal(second.prob, prob[1:])
    assert first.votes.tolist() == [[[False, True, False], [False, False, False]]]
    assert second.votes.tolist() == [[[True, False, False], [True, False, False]]]


# -------------------------------------------------------------------------------------------------------------- intervals


def made(by_cell: Mapping[Any, np.ndarray], patients: Sequence[str]) -> ScoreTable:
    """Return a table of `thresholded_dice`, given as (seeds, cases)."""
    first = next(iter(by_cell.values()))
    seeds = np.repeat(np.arange(len(first)), first.shape[1])
    columns = {key: {"thresholded_dice": values.reshape(-1)} for key, values in by_cell.items()}
    return of_columns(seeds, np.tile(np.array(patients), len(first)), columns)


def of_columns(seeds: Any, patients: Any, cells: dict[Any, dict[str, np.ndarray]], cases: Sequence[int] | None = None) -> ScoreTable:
    """Return a table of one structure without IoU of images."""
    counts = np.ones(len(seeds), int) if cases is None else np.array(cases)
    rows = np.repeat(np.arange(len(seeds)), counts)
    return ScoreTable(np.array(seeds), np.array(patients), np.full(len(seeds), "s"), counts, cells, {}, rows)


def test_a_mean_is_over_cases_and_a_difference_is_paired() -> None:
    random = np.random.default_rng(1)
    values = random.normal(size=(3, 40))
    table = made({KEY: values + 0.1, OTHER: values}, [f"p{number // 2}" for number in range(40)])
    assert estimate(table, "thresholded_dice", OTHER).mean == pytest.approx(values.mean())
    gap = estimate(table, "thresholded_dice", KEY, OTHER)
    assert (gap.mean, gap.low, gap.high) == pytest.approx((0.1, 0.1, 0.1))
    assert gap.by_seed == pytest.approx((0.1,) * 3)
    assert gap.p < 0.001


def test_intervals_cover_the_mean_over_patients_and_seeds() -> None:
    """Two random effects and noise: a 95 % interval over patients alone would cover far less often."""
    random = np.random.default_rng(2)
    covered, trials = 0, 100
    for _ in range(trials):
        values = 0.5 * random.normal(size=(1, 60)) + 0.3 * random.normal(size=(10, 1)) + 0.2 * random.normal(size=(10, 60))
        found = estimate(made({KEY: values}, [f"p{number}" for number in range(60)]), "thresholded_dice", KEY)
        covered += found.low <= 0 <= found.high
    assert covered >= 85


def test_of_folds_patients_are_drawn() -> None:
    """Each patient has one seed. The interval is that of the mean of so many patients."""
    random = np.random.default_rng(3)
    values = random.normal(size=200)
    columns = {KEY: {"thresholded_dice": values}}
    table = of_columns(np.repeat(np.arange(5), 40).tolist(), [f"p{number}" for number in range(200)], columns)
    found = estimate(table, "thresholded_dice", KEY)
    assert found.high - found.low == pytest.approx(2 * 1.96 * values.std() / np.sqrt(200), rel=0.1)


@pytest.mark.long
def test_of_no_difference_small_p_values_are_rare() -> None:
    random = np.random.default_rng(4)
    ps = []
    for _ in range(100):
        values = random.normal(size=(2, 10, 40))
        table = made({KEY: values[0], OTHER: values[1]}, [f"p{number}" for number in range(40)])
        ps.append(estimate(table, "thresholded_dice", KEY, OTHER).p)
    assert sum(p < 0.05 for p in ps) <= 12


def test_the_score_of_a_data_set_is_a_ratio_of_sums() -> None:
    columns = {"right_half": np.array([1.0, 8]), "marked_half": np.array([2.0, 10]), "majority": np.array([4.0, 9])}
    table = of_columns([0, 0], ["a", "b"], {KEY: columns}, [1, 2])
    assert estimate(table, "iou_dataset", KEY).mean == pytest.approx(9 / (12 + 13 - 9))


def test_the_score_of_empty_images_is_apart() -> None:
    columns = {
        "cases": np.array([2, 3]),
        "empty": np.array([1.0, 0]),
        "thresholded_dice": np.array([0.9, 1.5]),
        "thresholded_dice_of_empty": np.array([0.7, 0]),
    }
    table = of_columns([0, 0], ["a", "b"], {KEY: columns}, columns["cases"].tolist())
    assert table.has("dice_of_empty")
    assert estimate(table, "dice_of_empty", KEY).mean == pytest.approx(0.7)
    assert estimate(table, "dice_of_filled", KEY).mean == pytest.approx((0.2 + 1.5) / 4)
    assert not replace(table, cells={KEY: {**columns, "empty": np.zeros(2)}}).has("dice_of_empty")


def of_masks(found: np.ndarray, wanted: np.ndarray, seeds: int) -> ScoreTable:
    """Return the table of masks `(seeds * images, 2, voxels)`, two images of a patient, as runs leave it."""
    results = []
    of_seed = len(found) // seeds
    for seed in range(seeds):
        rows = [
            {
                "patient": f"p{image // 2}",
                "structure": structure,
                "thresholded_dice": "0",
                "majority": str(want.sum()),
                "right_half": str((have & want).sum()),
                "marked_half": str(have.sum()),
            }
            for image in range(of_seed)
            for structure, have, want in zip("ab", found[seed * of_seed + image], wanted[seed * of_seed + image], strict=True)
        ]
        results.append(kept.Result(("chase", *KEY, str(seed)), {}, kept.sums(rows)))
    table = table_of(results, "chase", range(seeds))
    assert table is not None
    return table


def test_fine_grained_scores_are_those_of_the_metric() -> None:
    """Two structures, of which images may lack one or both, in two seeds."""
    random = np.random.default_rng(5)
    there = random.random((24, 2, 1)) < [[0.8], [0.4]]
    wanted = (random.random((24, 2, 30)) < 0.5) & there
    found = wanted ^ (random.random((24, 2, 30)) < 0.2)
    table = of_masks(found, wanted, 2)
    whole = {key: torch.from_numpy(values).float() for key, values in (("found", found), ("wanted", wanted))}
    settings: tuple[tuple[str, dict[str, Any]], ...] = (
        ("iou_image", {"average": "image"}),
        ("iou_worst", {"average": "image", "worst": 25}),
        ("iou_class", {"average": "class"}),
        ("iou_dataset", {"average": "dataset"}),
    )
    for score, options in settings:
        assert table.has(score)
        by_seed = estimate(table, score, KEY).by_seed
        for seed in (0, 1):
            metric = FineGrainedOverlap(**options)
            metric(*(values[seed * 12 : seed * 12 + 12] for values in whole.values()))
            assert by_seed[seed] == pytest.approx(float(torch.as_tensor(metric.aggregate())), abs=1e-4), score


def test_the_worst_images_of_a_draw_are_those_of_its_images() -> None:
    """One image of each patient: a draw is a data set in which some are there several times."""
    random = np.random.default_rng(6)
    wanted = random.random((40, 1, 30)) < 0.5
    found = wanted ^ (random.random((40, 1, 30)) < random.random((40, 1, 1)))
    rows = [
        {"patient": f"p{image:02d}", "structure": "a", "thresholded_dice": "0", "majority": str(want.sum())}
        | {"right_half": str((have & want).sum()), "marked_half": str(have.sum())}
        for image, (have, want) in enumerate(zip(found[:, 0], wanted[:, 0], strict=True))
    ]
    table = table_of([kept.Result(("chase", *KEY, "0"), {}, kept.sums(rows))], "chase", (0,))
    assert table is not None
    assert not table.has("iou_class")
    ious = np.array([(have & want).sum() / (have | want).sum() for have, want in zip(found, wanted, strict=True)])
    times = random.multinomial(40, np.full(40, 1 / 40))
    repeated = np.sort(np.repeat(ious, times))
    (mean,) = _means(table, "iou_worst", KEY, np.ones((1, 1)), times[None].astype(float))
    assert mean == pytest.approx(repeated[: 40 * 25 // 100].mean(), abs=1e-4)


def test_holm_is_that_of_its_definition() -> None:
    ps = [0.01, 0.04, 0.03, 0.005]
    assert holm(ps) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    # the largest of n is never corrected, the smallest is by n
    uniform = stats.uniform.rvs(size=20, random_state=0).tolist()
    assert max(holm(uniform)) >= max(uniform)
    assert min(holm(uniform)) == pytest.approx(20 * min(uniform))
    # what is missing counts as if it had the largest p
    assert holm([0.01, 0.005], 4) == pytest.approx([0.03, 0.02])


# ------------------------------------------------------------------------------------------------------------ small version


def phantom_run(cell: Cell, seed: int, folder: Path, **keys: Any) -> Run:
    lists = tuple(write_phantoms(Path(), folder / "data", name="plain"))
    return Run(replace(cell, set="phantom plain"), seed, lists, folder / "out", {"epochs": 1, "batch_size": 4, **keys})


@pytest.mark.long
@pytest.mark.usefixtures("few_phantoms")
def test_a_small_study_from_runs_to_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    core = [cell for cell in CELLS if cell.set == "phantom plain"]
    for seed in (0, 1):
        for cell in core:
            perform(phantom_run(cell, seed, tmp_path))
    again = phantom_run(core[0], 0, tmp_path)
    written = (again.folder / "record.json").read_text()
    monkeypatch.setattr("benchmarks.study.run.train", lambda run: pytest.fail("trained again"))
    perform(again)
    assert (again.folder / "record.json").read_text() == written
    with pytest.raises(ValueError, match=r"record.json: expected .*'epochs': 2"):
        perform(phantom_run(core[0], 0, tmp_path, epochs=2))
    monkeypatch.setattr("sys.argv", ["tables", str(tmp_path / "out"), "--seeds", "0,1"])
    tables.main()
    text = capsys.readouterr().out
    assert "3 test images in each seed, 3 patients in all, seeds 0, 1." in text
    assert text.count("p, corrected") == 1
    with (tmp_path / "out" / "study_runs.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 10
    assert {row["seed"] for row in rows} == {"0", "1"}
    monkeypatch.setattr(kept, "KEPT", tmp_path / "kept")
    results = kept.read_results(tmp_path / "out")
    table = table_of(results, "phantom plain", (0, 1))
    assert table is not None
    by_hand = table.cells["unet", cells.JDT]["brier"][table.seeds == 1].mean()
    (row,) = [row for row in rows if (row["cell"], row["seed"]) == (cells.JDT, "1")]
    assert float(row["brier"]) == pytest.approx(by_hand, rel=1e-4)
    assert (tmp_path / "out" / "study_phantoms.png").stat().st_size > 10_000
    kept.keep(results)
    monkeypatch.setattr("sys.argv", ["tables", str(tmp_path / "again"), "--seeds", "0,1", "--kept"])
    tables.main()
    assert capsys.readouterr().out == text[text.index("## phantom") :]
    monkeypatch.setattr("sys.argv", ["study", str(tmp_path / "again"), "--sets", "phantom plain", "--cells", cells.USUAL, "--kept"])
    performed: list[Run] = []
    monkeypatch.setattr(study, "sets_of", lambda parser, arguments: {"phantom plain": again.lists})
    monkeypatch.setattr(study, "perform_all", lambda runs, workers, action: performed.extend(runs))
    study.main()
    # with the epochs of the study, seeds 0 and 1 are other runs
    assert [run.seed for run in performed] == [0, 1, 2, 3, 4]
    performed.clear()
    monkeypatch.setattr(study, "Run", lambda cell, seed, *given: phantom_run(cell, seed, tmp_path))
    study.main()
    assert [run.seed for run in performed] == [2, 3, 4]
    monkeypatch.setattr("sys.argv", ["tables", str(tmp_path / "out"), "--seeds", "0"])
    tables.main()
    assert "3 patients in all, seeds 0." in capsys.readouterr().out


def test_kept_results_are_sums_over_patients(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(kept, "KEPT", tmp_path / "kept")
    done(tmp_path / "out", "a", 0, [("c1", "p2", 0.25, 1, 2), ("c2", "p1", 0.5, 0, 0), ("c3", "p2", 1 / 3, 4, 3)])
    done(tmp_path / "out", "b", 1, [("c1", "p2", 0.0, 1, 0)])
    kept.keep(kept.read_results(tmp_path / "out"))
    first, second = kept.read_kept()
    assert first.about == ("chase", "unet", "a", "0")
    p1 = {"thresholded_dice": "0.5", "majority": "0", "marked_half": "0", "right_half": "0", "ious": "nan"}
    p2 = {"thresholded_dice": "0.58333", "majority": "5", "marked_half": "5", "right_half": "4", "ious": "0.5 0.75"}
    assert first.patients == [
        {"patient": "p1", "structure": "vessel", "cases": "1", "empty": "1", "thresholded_dice_of_empty": "0.5", **p1},
        {"patient": "p2", "structure": "vessel", "cases": "2", "empty": "0", "thresholded_dice_of_empty": "0", **p2},
    ]
    assert first.run["settings"] == "0123"
    assert float(first.run["validation_brier"]) == 0.125
    # a later run of the same cell and seed takes its place, the other stays
    done(tmp_path / "later", "a", 0, [("c1", "p2", 0.75, 1, 1)])
    kept.keep(kept.read_results(tmp_path / "later"))
    again, other = kept.read_kept()
    assert [patient["thresholded_dice"] for patient in again.patients] == ["0.75"]
    assert other == second
    assert [result.about[2] for result in kept.read_results(tmp_path / "none", kept=True)] == ["a", "b"]
    assert kept.read_results(tmp_path / "none") == []
    old = tmp_path / "later" / "runs" / "a" / "seed0" / "cases.csv"
    old.write_text(old.read_text().replace("structure", "organ"))
    with pytest.raises(ValueError, match=r"cases.csv: expected scores as .*scores.py makes them, got none of structure. Fix: delete"):
        kept.read_results(tmp_path / "later")
    for main in (kept.main, tables.main):
        monkeypatch.setattr("sys.argv", ["command", str(tmp_path / "later")])
        with pytest.raises(SystemExit, match="2"):
            main()
    assert capsys.readouterr().err.count("got none of structure") == 2
    lines = (tmp_path / "kept" / "runs.csv").read_text().splitlines()
    (tmp_path / "kept" / "runs.csv").write_text("\n".join(lines[:2]) + "\n")
    assert [result.about[2] for result in kept.read_kept()] == ["a"]


def done(out: Path, cell: str, seed: int, rows: Sequence[tuple[str, str, float, int, int]]) -> None:
    """Write what a run leaves, of cases whose mask has all of the smaller of majority and marked voxels."""
    folder = out / "runs" / cell / f"seed{seed}"
    folder.mkdir(parents=True)
    about = {"set": "chase", "network": "unet", "cell": cell, "seed": seed}
    scored = [
        {"case": name, "patient": patient, "structure": "vessel", "thresholded_dice": dice, "majority": majority}
        | {"marked_half": marked, "right_half": min(majority, marked)}
        for name, patient, dice, majority, marked in rows
    ]
    write_rows(folder / "cases.csv", [about | row for row in scored])
    where = {"seconds": {"all": 1.4}, "device": "cpu", "versions": {"torch": "2"}}
    record = {"settings": "0123", "decisions": {"threshold": 0.5, "level": 0.1}, "validation": {"brier": 0.125}, **where}
    (folder / "record.json").write_text(json.dumps(record))


def test_the_kept_results_are_whole() -> None:
    """What is in the repository: every run has its patients."""
    found = kept.read_kept()
    assert found
    for result in found:
        named = {(patient["patient"], patient["structure"]) for patient in result.patients}
        assert len(named) == len(result.patients) > 0
        assert all(int(patient["cases"]) == len(patient["ious"].split()) >= 1 for patient in result.patients)


def end_some(run: Run) -> int:
    """Stand in for a run that is killed, one that fails, and one that is done."""
    if run.seed == 0:
        os._exit(9)
    if run.seed == 1:
        raise SystemExit("no images")
    return run.seed


@pytest.mark.long
def test_a_run_that_is_killed_or_fails_does_not_end_the_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [Run(CELLS[0], seed, (tmp_path,), tmp_path, {}) for seed in (0, 1, 2)]
    with pytest.raises(SystemExit, match=r"2 of 3 runs failed; the first: .*, seed [01]"):
        perform_all(runs, 2, end_some)
    shown = capsys.readouterr()
    assert "seed 0: its process ended with exit code 9 before a result" in shown.out + shown.err
    assert "seed 1: SystemExit: no images" in shown.out + shown.err
    assert perform_all(runs[2:], 1, end_some) == [2]


def wait_for_long(run: Run) -> None:
    """Say that it has begun, and take longer than anyone waits."""
    (run.out / f"begun{run.seed}").touch()
    time.sleep(100)


@pytest.mark.long
def test_an_interruption_begins_no_other_run(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    runs = [Run(CELLS[0], seed, (tmp_path,), tmp_path, {}) for seed in range(4)]
    # a process in the background of a shell ignores it
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))

    def interrupt() -> None:
        while not (tmp_path / "begun0").exists():
            time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        perform_all(runs, 1, wait_for_long)
    assert time.monotonic() - start < 90
    time.sleep(3)
    assert [path.name for path in tmp_path.glob("begun*")] == ["begun0"]


@pytest.mark.long
def test_the_command_runs_a_cell(tmp_path: Path) -> None:
    """By itself: what it starts has to find what it is to call."""
    command = ["-m", "benchmarks.study", str(tmp_path), "--sets", "phantom plain", "--cells", "DiceCE, majority", "--seeds", "0"]
    subprocess.run([sys.executable, *command], cwd=Path(__file__).parents[2], check=True)
    assert [path.parent.name for path in tmp_path.glob("runs/phantom_plain_unet_dicece_majority/*/record.json")] == ["seed0"]


@pytest.mark.long
@pytest.mark.usefixtures("few_phantoms")
@pytest.mark.parametrize(
    "cell", [cell for cell in CELLS if cell.set == "lidc2d" and "epochs" not in cell.keys], ids=lambda cell: cell.slug
)
def test_every_cell_of_the_largest_set_runs(cell: Cell, tmp_path: Path) -> None:
    record = perform(phantom_run(cell, 0, tmp_path, **({"batch_size": 2} if cell.processes > 1 else {})))
    assert set(record["validation"]) >= {"thresholded_dice", "brier"}
    assert all(np.isfinite(value) for value in record["validation"].values())


def test_a_set_whose_patients_are_all_tested_has_no_trials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tune, "sets_of", lambda parser, arguments: {"chase": (Path("a"), Path("b"))})
    monkeypatch.setattr(tune, "write_rows", lambda path, rows: None)
    monkeypatch.setattr("sys.argv", ["tune", str(tmp_path)])
    tune.main()
    assert capsys.readouterr().out == "chase: no trials, since each of its patients is tested in some fold\n"


@pytest.mark.long
@pytest.mark.usefixtures("few_phantoms")
def test_trials_choose_the_rate_with_the_best_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tune, "RATES", (1e-6, 2e-3))
    monkeypatch.setitem(tune.EPOCHS, "phantom plain", 2)
    monkeypatch.setattr("sys.argv", ["tune", str(tmp_path), "--sets", "phantom plain"])
    tune.main()
    assert capsys.readouterr().out.count("phantom plain: learning rate") == 4
    with (tmp_path / "tuning.csv").open() as file:
        rows = list(csv.DictReader(file))
    ends = {(row["learning_rate"], row["epochs"]): float(row["val_thresholded_dice"]) for row in rows}
    best = max((1e-6, 2e-3), key=lambda rate: ends[str(rate), "2"])
    assert {rate for rate, epochs in ends if epochs in ("1", "4")} == {str(best)}


@pytest.mark.long
@pytest.mark.usefixtures("few_phantoms")
def test_kept_weights_predict_what_the_run_predicted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    core = next(cell for cell in CELLS if cell.set == "phantom plain" and cell.name == cells.JDT)
    run = phantom_run(core, 3, tmp_path)
    perform(run)
    monkeypatch.setattr(keeping, "KEPT", tmp_path / "kept")
    kept = keeping.keep(run.folder)
    assert kept.name == "phantom_plain_unet_ce_jml_average_seed3.pt"
    assert kept.stat().st_size < 0.6 * (run.folder / "weights.pt").stat().st_size
    folder = keeping.predict(kept, tmp_path / "again", None, "test")
    files = sorted(folder.rglob("*.nii.gz"))
    assert [file.parent.name for file in files] == ["test_000", "test_001", "test_002"]
    with (run.folder / "cases.csv").open() as file:
        volumes = {row["case"]: float(row["volume"]) for row in csv.DictReader(file)}
    for path in files:
        prob = nibabel.load(path).get_fdata()  # type: ignore[attr-defined]
        assert prob.shape == (64, 64)
        assert prob.sum() == pytest.approx(volumes[path.parent.name], rel=5e-3)
    with pytest.raises(ValueError, match=r"WEIGHTS: expected weights.pt of a run, or a file named CELL_seedN.pt, got .*other.pt"):
        keeping.cell_of(tmp_path / "other.pt")
