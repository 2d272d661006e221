"""Nothing is written outside the output folder, whatever a list calls its cases and wherever its images lie."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor

from tests.bundles import test_brats_bundle as brats
from tests.bundles import test_lidc_bundle as lidc
from tests.bundles import test_qubiq_bundle as qubiq
from tests.bundles.test_output_forms import weights
from tests.bundles.test_own_files import write_cases
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


@pytest.mark.parametrize("bundle", [brats, lidc, qubiq], ids=["brats", "lidc", "qubiq"])
def test_an_overlay_names_cases_that_no_search_finds(tmp_path: Path, bundle: Any) -> None:
    """Two of three images, one of them in another folder than the other, under names of the overlay."""
    flat = bundle is qubiq
    data = Path(write_cases(tmp_path / "set", (20, 18) if flat else (20, 18, 8), (20, 18)))
    (data / "c").rename(tmp_path / "elsewhere")
    shape: dict[str, Any] = {"size": [16, 16]} if flat else {"spacing": None, "roi": [16, 16, 8]}
    weights(tmp_path, 2 if flat else 3, 1 if bundle is brats else 2, **shape, region_names=["one"])
    listed = [{"case": "../first", "image": f"{data}/a/ct.nii.gz"}, {"case": "2", "image": f"{tmp_path}/elsewhere/ct.nii.gz"}]
    (tmp_path / "cases.yaml").write_text(json.dumps({"datalist": listed}))
    network = {key: value for key, value in qubiq.SMALL_NET.items() if key.startswith("network_def")}
    network |= {"roi": [16, 16, 8]} if bundle is brats else {}
    # no folder is needed, no phantom is made, and the files end as they like
    bundle.start("inference.yaml", str(tmp_path / "cases.yaml"), root=tmp_path, **network)
    found = tmp_path / "eval" / "predictions"
    written = {str(path.relative_to(found)) for path in found.rglob("*.nii.gz")}
    file = {brats: "ct_prob.nii.gz", lidc: "nodule.nii.gz", qubiq: "task01.nii.gz"}[bundle]
    assert written == {f"set/a/{file}", f"elsewhere/{file}"} if bundle is brats else {f"first/{file}", f"2/{file}"}
    assert len(list(tmp_path.rglob("*.nii.gz"))) == 9 + 2
