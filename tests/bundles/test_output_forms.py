"""`form`: predictions as probabilities, as masks, or as one label map. `monai_jdt evaluate` reads each of them."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK
import torch
from monai.networks.nets import SegResNet
from PIL import Image

from monai_jdt.cli import main
from tests.bundles import test_brats_bundle as brats
from tests.bundles import test_lidc_bundle as lidc
from tests.bundles import test_qubiq_bundle as qubiq
from tests.bundles.test_own_files import write_cases, write_pictures
from tests.bundles.test_settings import refused
from tests.nifti_files import load_nifti


def weights(root: Path, dims: int, out_channels: int, **trained: Any) -> None:
    """A network as a training leaves it, but for the training: its outputs lie on both sides of 0.5."""
    torch.manual_seed(0)
    network = SegResNet(dims, 8, 1, out_channels, blocks_down=(1, 1), blocks_up=(1,))
    (root / "models").mkdir()
    torch.save(network.state_dict(), root / "models" / "model.pt")
    settings = {"spatial_dims": dims, "channels": 1, "out_channels": out_channels, "normalize": "zscore", **trained}
    (root / "models" / "model.json").write_text(json.dumps(settings))


def label_map(soft: np.ndarray, values: tuple[int, ...]) -> np.ndarray:
    """The value of the inner region where its probability decides, for an outer region with all values and an inner with the last."""
    # distances |p_outer - m| + |p_inner - m| of no region, the outer alone, and both
    outer, inner = soft[..., 0], soft[..., 1]
    distances = np.stack([outer + inner, 1 - outer + inner, 2 - outer - inner])
    return np.asarray((0, *values))[distances.argmin(axis=0)]


def scores(predictions: Path, listed: Path, regions: str) -> list[float]:
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", str(predictions), str(listed), "--regions", regions, "--dest", str(predictions / "scores"), "--no-progress"])
    assert not ended.value.code
    with open(predictions / "scores" / "evaluation.csv", newline="") as file:
        return [float(row["value"]) for row in csv.DictReader(file) if row["score"] == "dice_majority"]


def test_masks_of_pictures_are_palettes(tmp_path: Path, capsys: Any) -> None:
    data = write_pictures(tmp_path / "set", "L", 7, 0)
    weights(tmp_path, 2, 2, size=[16, 16], channel_dim=None, regions={"cell": [7]}, region_names=["cell"])
    settings: dict[str, Any] = {**qubiq.SMALL_NET, "dataset_dir": data, "image_name": "B??.png"}
    for form in ("soft", "hard", "map"):
        qubiq.start("inference.yaml", root=tmp_path, form=form, output_dir=str(tmp_path / form), **settings)
    items: list[dict[str, Any]] = [
        {"case": case, "image": f"set/{case}.png", "raters": [f"set/{case}_{n}.png" for n in (1, 2)]}
        for case in ("B01", "B02", "B03", "B04")
    ]
    (tmp_path / "list.json").write_text(json.dumps({"validation": items}))
    for item in items:
        marked = load_nifti(tmp_path / "soft" / item["case"] / "task01.nii.gz").get_fdata().T > 0.5
        assert 0 < marked.mean() < 1
        hard, one_map = (Image.open(tmp_path / form / item["case"] / "task01.png") for form in ("hard", "map"))
        assert hard.mode == one_map.mode == "P"
        np.testing.assert_array_equal(np.asarray(hard), marked)
        np.testing.assert_array_equal(np.asarray(one_map), 7 * marked)
    # an empty mask would be scored if the palette's 1 were 1 / 255
    found = [scores(tmp_path / form, tmp_path / "list.json", '{"cell": [7]}') for form in ("soft", "hard", "map")]
    assert len(found[0]) == 4
    assert max(found[0]) > 0
    assert found[0] == found[1] == found[2]
    line = refused(capsys, tmp_path, qubiq.configs("inference.yaml"), **settings, form="label")
    assert line.startswith("form: expected one of soft, hard, map, got 'label'")


@pytest.mark.parametrize("flat", [False, True])
def test_nested_regions_become_label_values(tmp_path: Path, flat: bool) -> None:
    """Flat images that are no pictures stay NIfTI."""
    data = write_cases(tmp_path / "set", (20, 18) if flat else (20, 18, 8), (20, 18) if flat else (20, 18, 8))
    groups = {"lesion": [1, 300], "core": [300]}
    weights(tmp_path, 2 if flat else 3, 2, roi=[16] * (2 if flat else 3), regions=groups, region_names=list(groups))
    given: dict[str, Any] = {"dataset_dir": data, "image_endings": ["ct.nii.gz"], **brats.NETWORK}
    given["roi"] = [16, 16] if flat else [16, 16, 8]
    for form in ("soft", "hard", "map"):
        brats.start("inference.yaml", root=tmp_path, form=form, output_dir=str(tmp_path / form), **given)
    for case in "abc":
        soft = load_nifti(tmp_path / "soft" / case / "ct_prob.nii.gz").get_fdata()
        hard = load_nifti(tmp_path / "hard" / case / "ct_hard.nii.gz")
        one_map = load_nifti(tmp_path / "map" / case / "ct_map.nii.gz")
        assert hard.get_data_dtype() == np.uint8
        np.testing.assert_array_equal(hard.get_fdata(), soft > 0.5)
        np.testing.assert_array_equal(one_map.get_fdata(), label_map(soft, (1, 300)))
        np.testing.assert_allclose(one_map.affine, hard.affine)


def test_a_map_of_a_tiff_volume_is_a_volume(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    voxels = np.random.default_rng(0).integers(0, 200, (8, 16, 16), np.uint8)
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(voxels), str(tmp_path / "set" / "a_ct.tif"))
    weights(tmp_path, 3, 1, roi=[16, 16, 8], regions={"cell": [7]}, region_names=["cell"])
    given: dict[str, Any] = {"dataset_dir": str(tmp_path / "set"), "image_endings": ["_ct.tif"], **brats.NETWORK, "roi": [16, 16, 8]}
    brats.start("inference.yaml", root=tmp_path, form="map", output_dir=str(tmp_path / "map"), **given)
    found = load_nifti(tmp_path / "map" / "a_ct_map.nii.gz").get_fdata()
    assert found.shape == (16, 16, 8)
    assert set(np.unique(found)) <= {0, 7}


def test_masks_are_those_of_the_decision(tmp_path: Path, capsys: Any) -> None:
    data = write_cases(tmp_path / "set", (20, 18, 8), (20, 18, 8))
    weights(tmp_path, 3, 2, activation="softmax", spacing=None, roi=[16, 16, 8], region_names=["nodule"])
    given: dict[str, Any] = {"dataset_dir": data, "image_name": "ct.nii.gz", **lidc.NETWORK, "roi": [16, 16, 8]}
    # weights of before model.json had regions
    line = refused(capsys, tmp_path, lidc.configs("inference.yaml"), **given, form="map")
    assert line.startswith(
        "regions: expected the label values of each channel, since form is map, got none: the file beside the weights"
    )
    line = refused(capsys, tmp_path, lidc.configs("inference.yaml"), **given, form="map", regions=[[1], [2]])
    assert line.startswith("regions: expected 1 regions, one per channel that is predicted, got 2: label_1, label_2")
    given |= {"decision": "expected_dice", "regions": {"nodule": [4]}}
    lidc.start("inference.yaml", root=tmp_path, form="map", save_masks=True, **given)
    found = tmp_path / "eval" / "predictions"
    for case in "abc":
        mask = load_nifti(found / "masks" / f"{case}.nii.gz").get_fdata()
        assert 0 < mask.mean() < 1
        np.testing.assert_array_equal(load_nifti(found / case / "nodule.nii.gz").get_fdata(), 4 * mask)


@pytest.mark.parametrize("bundle", [brats, lidc, qubiq], ids=["brats", "lidc", "qubiq"])
def test_regions_are_written_beside_the_weights(tmp_path: Path, bundle: Any) -> None:
    from monai.bundle import ConfigParser

    parser = ConfigParser(ConfigParser.load_config_files(bundle.configs("train.yaml")))
    parser["bundle_root"] = str(tmp_path)
    parser["regions"] = {"core": [2, 3], "rest": [1]}
    parser["trained_settings"] = {"regions": parser["trained_settings"]["regions"]}
    parser.parse()
    written = json.loads(json.dumps(parser.get_parsed_content("trained_settings")))
    assert written == {"regions": {"core": [2, 3], "rest": [1]}}
