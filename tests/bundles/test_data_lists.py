"""`--datalist list.json` from training to prediction: the split that the list brings along is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from monai_jdt.data import write_datalist
from monai_jdt.report.run_folder import read_run
from tests.bundles import test_brats_bundle as brats
from tests.bundles import test_qubiq_bundle as qubiq
from tests.bundles.test_own_files import write_cases
from tests.bundles.test_settings import checked, refused


def listed(folder: Path, shape: tuple[int, ...], folds: bool = False) -> str:
    """A list of three cases: two and one by section, and a fourth item for prediction, or three with a fold each."""
    data = Path(write_cases(folder / "set", shape, shape))
    items: list[dict[str, Any]] = [
        {"case": case, "image": str(data / case / "ct.nii.gz"), "raters": [str(data / case / f"reader{r}.nii.gz") for r in (1, 2)]}
        for case in "abc"
    ]
    if folds:
        return write_datalist([{**item, "fold": number} for number, item in enumerate(items)], folder / "list.json")
    to_predict = {"case": "new", "image": items[0]["image"]}
    return write_datalist({"training": items[:2], "validation": items[2:], "testing": [to_predict]}, folder / "list.json")


@pytest.mark.parametrize("bundle", [brats, qubiq], ids=["brats", "qubiq"])
def test_training_evaluation_and_prediction_follow_the_sections(tmp_path: Path, bundle: Any, capsys: Any) -> None:
    path = listed(tmp_path, (20, 18) if bundle is qubiq else (20, 18, 8))
    own: dict[str, Any] = {"regions": {"lesion": [1]}, "label_values": [0, 1], "datalist": path, "epochs": 1}
    own |= {"channels": 1, "roi": [16, 16, 8], "normalize": "zscore"} if bundle is brats else {}
    settings = {**bundle.TINY, **own}
    bundle.start("train.yaml", root=tmp_path, **settings)
    bundle.start("train.yaml", "evaluate.yaml", root=tmp_path, **settings)
    record = read_run(tmp_path / "eval")
    assert [case.plain for case in record.cases] == ["c"]
    assert record.datalist == path
    # a section that is named is scored as a whole
    files = bundle.configs("train.yaml", "evaluate.yaml")
    (split,) = checked(tmp_path, files, "split", **settings, datalist_section="training")
    assert [[item["case"] for item in side] for side in split] == [[], ["a", "b"]]
    network: dict[str, Any] = {k: v for k, v in bundle.TINY.items() if k.startswith("network_def")}
    bundle.start("inference.yaml", root=tmp_path, datalist=path, output_dir=str(tmp_path / "p"), save_masks=True, **network)
    # by the name of the list, not of the folder
    assert [path.name for path in (tmp_path / "p" / "masks").iterdir()] == ["new.nii.gz"]
    assert (tmp_path / "p" / "new" / "task01.nii.gz").is_file() or bundle is brats
    line = refused(capsys, tmp_path, bundle.configs("train.yaml"), **settings, fold=0)
    assert line.startswith("fold: expected null for a data list with a section validation")


@pytest.mark.parametrize("bundle", [brats, qubiq], ids=["brats", "qubiq"])
def test_training_follows_the_folds(tmp_path: Path, bundle: Any) -> None:
    path = listed(tmp_path, (20, 18), folds=True)
    files = bundle.configs("train.yaml")
    (split,) = checked(tmp_path, files, "split", datalist=path, fold=2)
    assert [[item["case"] for item in side] for side in split] == [["a", "b"], ["c"]]
    own = {"split_by": "draw", "datalist": path} | ({"folds": 3, "fold": 1} if bundle is qubiq else {"val_fraction": 0.6})
    (split,) = checked(tmp_path, files, "split", **own)
    assert [len(side) for side in split] == ([2, 1] if bundle is qubiq else [1, 2])


def test_a_path_with_commas_and_one_in_an_overlay(tmp_path: Path) -> None:
    """Fire splits `a,b.json` at the comma."""
    folder = tmp_path / "a,b"
    folder.mkdir()
    path = listed(folder, (20, 18))
    (split,) = checked(tmp_path, qubiq.configs("train.yaml"), "split", datalist=tuple(path.split(",")))
    assert [item["case"] for item in split[1]] == ["c"]
    (tmp_path / "mine.yaml").write_text(f"datalist: {path}\n")
    (split,) = checked(tmp_path, [*qubiq.configs("train.yaml"), str(tmp_path / "mine.yaml")], "split")
    assert [item["case"] for item in split[1]] == ["c"]
