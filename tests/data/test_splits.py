"""Splits and folds: by patient, seeded, and the blocks of the JDT paper."""

from typing import Any

import pytest

from monai_jdt.data import folds, split_cases


def test_split_keeps_a_patient_on_one_side() -> None:
    names = [f"BraTS-GLI-{n:05d}-{t:03d}" for n in range(20) for t in range(3)]
    items = [{"case": name} for name in names]
    for seed in range(5):
        train, validation = split_cases(items, 0.25, seed)
        sides = [{item["case"][:15] for item in side} for side in (train, validation)]
        assert not sides[0] & sides[1]
        assert [len(side) for side in sides] == [15, 5]
        assert [item["case"] for item in validation] == sorted(item["case"] for item in validation)
        assert sorted(item["case"] for item in train + validation) == names


def test_split_is_seeded_and_does_not_look_at_the_order() -> None:
    items = [{"case": f"c{n}"} for n in range(30)]

    def validation(items: list[dict[str, Any]], seed: int) -> set[str]:
        return {item["case"] for item in split_cases(items, 0.3, seed)[1]}

    assert validation(items, 1) == validation(items[::-1], 1)
    assert validation(items, 1) != validation(items, 2)


@pytest.mark.parametrize(("fraction", "sizes"), [(0.01, (2, 1)), (0.99, (1, 2)), (0.5, (1, 2))])
def test_split_leaves_a_case_on_each_side(fraction: float, sizes: tuple[int, ...]) -> None:
    train, validation = split_cases([{"id": n} for n in "abc"], fraction, key="id")
    assert (len(train), len(validation)) == sizes


def test_wrong_splits_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 2 patients to split, got 1"):
        split_cases([{"case": "BraTS-GLI-00001-000"}, {"case": "BraTS-GLI-00001-001"}])
    with pytest.raises(ValueError, match="fraction"):
        split_cases([{"case": "a"}, {"case": "b"}], 1.0)
    with pytest.raises(ValueError, match=r"items\[0\]: expected the key 'id'"):
        split_cases([{"case": "a"}, {"case": "b"}], key="id")


def test_crops_of_one_patient_stay_together() -> None:
    patients = ("LIDC-IDRI-0001", "LIDC-IDRI-0002", "LNDb-0003")
    sides = split_cases([{"case": patient + crop} for patient in patients for crop in ("_n1", "-2", "")], fraction=0.4)
    assert [len(side) for side in sides] == [6, 3]
    train, validation = ({patient for patient in patients for item in side if item["case"].startswith(patient)} for side in sides)
    assert not train & validation


def _sizes(cut: list[tuple[list[dict], list[dict]]]) -> list[int]:
    return [len(validation) for _, validation in cut]


def test_folds_by_case_order_are_the_papers() -> None:
    items = [{"case": f"case{n:02d}", "task": t} for n in range(1, 25) for t in ("task01", "task02")]
    cut = folds(items)
    assert _sizes(cut) == [8, 8, 8, 8, 16]  # 24 // 5 = 4 patients of two tasks, the last fold takes the rest
    assert [i["case"] for i in cut[1][1]] == [f"case{n:02d}" for n in (5, 5, 6, 6, 7, 7, 8, 8)]
    for train, validation in cut:
        assert not {i["case"] for i in train} & {i["case"] for i in validation}
        assert len(train) + len(validation) == len(items)


def test_folds_by_seed() -> None:
    items = [{"case": f"BraTS-GLI-{n:05d}-{t:03d}", "x": [n]} for n in range(11) for t in range(2)]
    cut = folds(items, 4, seed=3)
    assert sorted(_sizes(cut)) == [4, 6, 6, 6]
    again = folds(items[::-1], 4, seed=3)
    assert [sorted(i["case"] for i in v) for _, v in cut] == [sorted(i["case"] for i in v) for _, v in again]
    assert cut != folds(items, 4, seed=4)
    cut[0][0][0]["case"] = "changed"
    assert all(item["case"] != "changed" for item in items)


def test_equal_names_in_two_sets_are_two_patients() -> None:
    items = [{"case": "case01", "dataset": d} for d in ("kidney", "prostate")]
    assert _sizes(folds(items, 2)) == [1, 1]
    sessions = [{"case": "01_ses-1"}, {"case": "01_ses-2"}, {"case": "02_ses-1"}]
    assert sorted(_sizes(folds(sessions, 2))) == [1, 2]


@pytest.mark.parametrize("k", [1, 4, 2.5])
def test_wrong_folds_are_refused(k: Any) -> None:
    with pytest.raises(ValueError, match=rf"k: expected 2 to 3 folds, at most as many as patients, got {k}"):
        folds([{"case": c} for c in "abc"], k)
