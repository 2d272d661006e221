"""QUBIQ by set, task and part."""

import copy
import os
import pickle
from pathlib import Path

import pytest

from monai_jdt.data import QUBIQ_SETS, DataProblemError, qubiq_datalist, record_of, split_cases
from tests.data.empty_files import touch_files


def _case(
    root: Path, folder: str, tasks: int = 1, raters: int = 3, image: str | None = "image.nii.gz", suffix: str = ".nii.gz"
) -> None:
    masks = [f"task{t:02d}_seg{r:02d}{suffix}" for t in range(1, tasks + 1) for r in range(1, raters + 1)]
    touch_files(root, *(f"{folder}/{name}" for name in [*([image] if image else []), *masks]))


def _layout_2020(root: Path) -> None:
    for n in (1, 2, 10):
        _case(root, f"training_data_v2/prostate/Training/case{n:02d}", tasks=2, raters=5 if n == 2 else 6)
    _case(root, "training_data_v2/brain-tumor/Training/case01", tasks=3)
    _case(root, "validation_data_v2/prostate/Validation/case49", tasks=2, raters=6)
    touch_files(root, "test_QUBIQ/prostate/Testing/case50/image.nii.gz")


def test_2020_by_set_task_and_subset(tmp_path: Path) -> None:
    _layout_2020(tmp_path)
    items = qubiq_datalist(tmp_path, "prostate", 2)
    assert [(i["case"], i["task"], i["subset"], len(i["raters"])) for i in items] == [
        ("case01", "task02", "training", 6),
        ("case02", "task02", "training", 5),
        ("case10", "task02", "training", 6),
        ("case49", "task02", "validation", 6),
    ]
    folder = f"{tmp_path}/training_data_v2/prostate/Training/case02"
    assert items[1] == {
        "case": "case02",
        "dataset": "prostate",
        "task": "task02",
        "subset": "training",
        "image": f"{folder}/image.nii.gz",
        "raters": [f"{folder}/task02_seg{r:02d}.nii.gz" for r in range(1, 6)],
    }
    assert [i["case"] for i in qubiq_datalist(tmp_path, "prostate", "task01", subset="validation")] == ["case49"]
    tumour = qubiq_datalist(tmp_path, "brain_tumor")
    assert [(i["task"], i["channels"]) for i in tumour] == [(f"task0{t}", [0, 1, 2, 3]) for t in (1, 2, 3)]
    assert len(qubiq_datalist(tmp_path)) == 4 * 2 + 3


def test_a_list_reports_what_was_found(tmp_path: Path) -> None:
    _layout_2020(tmp_path)
    items = qubiq_datalist(tmp_path, "prostate")
    assert str(items.found) == (
        f"{tmp_path}: 4 cases, 8 items (task01, task02); raters of an item: 5 (2 items), 6 (6 items); skipped: 1\n"
        f"  {tmp_path}/test_QUBIQ/prostate/Testing/case50: an image without masks"
    )
    _case(tmp_path, "training_data_v2/kidney/Training/case01")
    _case(tmp_path, "training_data_v2/kidney/Training/case02", image=None)
    assert [s.why for s in qubiq_datalist(tmp_path, "kidney").found.skipped] == ["masks without an image.nii.gz"]
    _case(tmp_path, "training_data_v2/kidney/Training/case03", tasks=2)
    assert "no mask of task02" in str(qubiq_datalist(tmp_path, "kidney", 2).found)
    for same in (copy.deepcopy(items), pickle.loads(pickle.dumps(items))):
        assert (same, same.found) == (items, items.found)
    assert type(items[:1]) is list
    assert record_of([]).raters == ()


@pytest.mark.parametrize("below", ["training_data_v3_QC/kidney/Training/case01", "training_data_v3_QC/kidney/case01"])
def test_any_level_may_be_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, below: str) -> None:
    _case(tmp_path, below)
    parts = below.split("/")
    for depth in range(len(parts) + 1):
        (item,) = qubiq_datalist(tmp_path.joinpath(*parts[:depth]))
        assert (item["case"], item["dataset"], item["task"]) == ("case01", "kidney", "task01")
    monkeypatch.chdir(tmp_path.joinpath(*parts))
    assert qubiq_datalist(".", "Kidney")[0]["image"] == os.path.join(".", "image.nii.gz")


def test_pancreas_of_2021_upper_case_and_plain_files(tmp_path: Path) -> None:
    for case in ("case1-1", "case1-2", "case2-1"):
        _case(tmp_path, f"training_data_v3/pancreas/{case}", raters=2, image="IMAGE.NII.GZ", suffix=".NII")
    touch_files(tmp_path, "training_data_v3/pancreas/case1-1/._image.nii.gz", "training_data_v3/pancreas/case1-1/notes.txt")
    items = qubiq_datalist(tmp_path)
    assert [i["case"] for i in items] == ["case1-1", "case1-2", "case2-1"]
    assert "subset" not in items[0]
    train, validation = split_cases(items, 0.5)
    assert sorted(len(side) for side in (train, validation)) == [1, 2]  # both scans of patient 1 on one side


def test_images_to_predict(tmp_path: Path) -> None:
    _layout_2020(tmp_path)
    (item,) = qubiq_datalist(tmp_path, subset="testing", labelled=False)
    assert item == {
        "case": "case50",
        "dataset": "prostate",
        "subset": "testing",
        "image": f"{tmp_path}/test_QUBIQ/prostate/Testing/case50/image.nii.gz",
    }
    assert qubiq_datalist(tmp_path, subset="testing", task=1, labelled=False)[0]["task"] == "task01"


def test_problems(tmp_path: Path) -> None:
    _layout_2020(tmp_path)
    with pytest.raises(DataProblemError, match=r"expected labelled cases of kidney, got the data sets brain-tumor, prostate"):
        qubiq_datalist(tmp_path, "kidney")
    with pytest.raises(DataProblemError, match=r"expected labelled cases of prostate task07, got .* with the tasks task01, task02"):
        qubiq_datalist(tmp_path, "prostate", 7)
    with pytest.raises(ValueError, match="task: expected a number or a name as 'task01', got 'edges'"):
        qubiq_datalist(tmp_path, task="edges")
    with pytest.raises(ValueError, match="subset: expected training, validation, testing or None, got 'dev'"):
        qubiq_datalist(tmp_path, subset="dev")
    touch_files(tmp_path, "training_data_v2/prostate/Training/case01/image.nii")
    touch_files(tmp_path, "training_data_v2/prostate/Training/case01/task01_seg1.nii")
    _case(tmp_path, "again/prostate/Training/case02", tasks=1)
    with pytest.raises(DataProblemError) as caught:
        qubiq_datalist(tmp_path)
    lines = str(caught.value).splitlines()
    assert len(lines) == 3
    assert "case01: expected one file of task01_seg1, got task01_seg01.nii.gz and task01_seg1.nii" in "\n".join(lines)
    assert "case01: expected one image, got image.nii and image.nii.gz" in "\n".join(lines)
    assert "case02: expected each case once, got" in lines[2]


def test_which_sets_are_ct() -> None:
    assert {name for name, known in QUBIQ_SETS.items() if known.is_ct} == {"kidney", "pancreas", "pancreatic-lesion"}
