"""Nothing is written outside the output folder, whatever a list calls its cases and wherever its images lie."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor

from tests.nifti_files import save_nifti

BUNDLES = Path(__file__).resolve().parents[2] / "bundles"


@pytest.mark.parametrize("bundle", ["brats", "qubiq"])
def test_predictions_stay_in_the_output_folder(tmp_path: Path, bundle: str) -> None:
    items = []
    for place, case in (("lists/sub", "../../x"), ("far/away", f"{tmp_path}/absolute"), ("far", "..")):
        (tmp_path / place).mkdir(parents=True, exist_ok=True)
        path = tmp_path / place / "image.nii.gz"
        save_nifti(path, np.zeros((4, 4, 4), np.float32), np.eye(4))
        items.append({"case": case, "dataset": "../../y", "task": "/z", "image": str(path)})
    # a byte order mark, and one path as Windows writes it, as in lists from elsewhere
    listed = [{**items[0], "image": "sub\\image.nii.gz"}, *items[1:]]
    (tmp_path / "lists" / "list.json").write_text(json.dumps({"training": listed}), encoding="utf-8-sig")
    config = ConfigParser.load_config_files(BUNDLES / f"{bundle}_multirater_segmentation" / "configs" / "inference.yaml")
    parser = ConfigParser(config)
    overrides = {"bundle_root": str(tmp_path / "a" / "b"), "datalist_file": str(tmp_path / "lists" / "list.json")}
    for key, value in {**overrides, "output_dir": str(tmp_path / "a" / "b" / "out")}.items():
        parser[key] = value
    parser.parse()
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    save = parser.get_parsed_content("save")
    for item in items:
        meta = {"filename_or_obj": item["image"]}
        save({"pred": MetaTensor(torch.zeros(1, 4, 4, 4), affine=torch.eye(4), meta=meta), "case": item["case"]})
    written = {path for path in tmp_path.rglob("*") if path.is_file()} - before
    assert len(written) == len(items)
    assert all((tmp_path / "a" / "b" / "out") in path.parents for path in written)
