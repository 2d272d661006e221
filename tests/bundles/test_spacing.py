"""`spacing`: the network sees voxels of one size, and everything that is written or scored lies on the image's own voxels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from monai.bundle import ConfigParser

from monai_jdt.data import write_datalist
from monai_jdt.report.run_folder import read_run, read_scores
from tests.bundles import test_brats_bundle as brats
from tests.bundles.test_settings import refused
from tests.nifti_files import load_nifti, save_nifti

#: Voxels of 0.5 x 1 x 3 mm, one axis mirrored.
AFFINE = np.array([[-0.5, 0, 0, 20], [0, 1.0, 0, -30], [0, 0, 3.0, 7], [0, 0, 0, 1.0]])
SHAPE = (32, 20, 8)
SETTINGS: dict[str, Any] = {
    "channels": 1,
    "normalize": "zscore",
    "regions": {"a": [1], "b": [2]},
    "label_values": [0, 1, 2],
    "spacing": [1, 1, 1],
}


def listed(folder: Path) -> str:
    """Three cases with two raters, whose label values 0 and 2 touch, so that interpolation would make a 1."""
    rng, items = np.random.default_rng(0), []
    for case in "abc":
        (folder / case).mkdir(parents=True)
        save_nifti(folder / case / "ct.nii.gz", rng.normal(size=SHAPE).astype(np.float32), AFFINE)
        for rater in (1, 2):
            labels = np.zeros(SHAPE, np.uint8)
            labels[8 : 20 + 2 * rater, 5:15, 2:6] = 2
            labels[24:30, 5:15, 2:6] = 1
            save_nifti(folder / case / f"r{rater}.nii.gz", labels, AFFINE)
        raters = [str(folder / case / f"r{rater}.nii.gz") for rater in (1, 2)]
        items.append({"case": case, "image": str(folder / case / "ct.nii.gz"), "raters": raters, "fold": int(case == "c")})
    return write_datalist(items, folder / "list.json")


def test_training_sees_voxels_of_one_size_and_whole_votes(tmp_path: Path) -> None:
    parser = ConfigParser(ConfigParser.load_config_files(brats.configs("train.yaml")))
    given = {"bundle_root": str(tmp_path), "datalist_file": listed(tmp_path / "set"), **SETTINGS, "roi": [8, 8, 8]}
    for key, value in given.items():
        parser[key] = value
    parser.parse()
    (item,) = parser.get_parsed_content("split")[1][:1]
    steps = parser.get_parsed_content("read_case") + parser.get_parsed_content("train#resampling")
    for step in [*steps, *parser.get_parsed_content("votes_to_label")]:
        item = step(item)
    assert item["image"].shape[1:] == item["label"].shape[1:] == (16, 20, 22)
    # the raters agree on which side of the border a voxel lies, or are half and half: nothing is interpolated
    assert set(item["label"].unique().tolist()) == {0.0, 0.5, 1.0}
    # 15 voxels of 0.5 mm, 10 of 1 mm and 4 of 3 mm
    assert float(item["label"][1].sum()) == pytest.approx(15 / 2 * 10 * 4 * 3, rel=0.1)


def test_scores_and_predictions_lie_on_the_images_own_voxels(tmp_path: Path, capsys: Any) -> None:
    path = listed(tmp_path / "set")
    settings: dict[str, Any] = {**brats.TINY, **SETTINGS, "roi": [16, 16, 16], "epochs": 1, "datalist": path}
    brats.start("train.yaml", root=tmp_path, **settings)
    brats.start("train.yaml", "evaluate.yaml", root=tmp_path, **settings)
    assert read_run(tmp_path / "eval").settings["spacing"] == "[1.0, 1.0, 1.0]"
    assert {row["score"] for row in read_scores(tmp_path / "eval")} >= {"dice", "brier"}
    network: dict[str, Any] = {key: value for key, value in brats.NETWORK.items() if key != "roi"}
    brats.start("inference.yaml", root=tmp_path, datalist=path, output_dir=str(tmp_path / "p"), save_masks=True, **network)
    files = [*(tmp_path / "eval" / "scored").rglob("*.nii.gz"), *(tmp_path / "p").rglob("*.nii.gz")]
    assert len(files) == 2 + 3 + 3
    for file in files:
        assert load_nifti(file).shape == (*SHAPE, 2)
        np.testing.assert_allclose(load_nifti(file).affine, AFFINE, atol=1e-5)
    # the evaluation's probabilities are those of the prediction
    (one,) = (file for file in files if file.parent.name == "a" and "prob" in file.name)
    scored = load_nifti(tmp_path / "eval" / "scored" / "a.nii.gz").get_fdata()
    np.testing.assert_allclose(load_nifti(one).get_fdata(), scored, atol=1e-5)
    with pytest.raises(SystemExit) as caught:
        brats.start("inference.yaml", root=tmp_path, datalist=path, spacing=[2, 2, 2], **network)
    assert "spacing: expected [1.0, 1.0, 1.0], as these weights were trained, got another" in str(caught.value.code)


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"spacing": 1}, 'spacing: expected 2 or 3 numbers > 0, or null, got 1. Fix: --spacing "[1,1,1]"'),
        ({"spacing": [1, 0, 1]}, "spacing: expected 2 or 3 numbers > 0, or null, got [1, 0, 1]"),
        ({"spacing": [1, 1]}, 'spacing: expected 3 numbers, one for each axis, got [1.0, 1.0]. Fix: --spacing "[1,1,1]"'),
        (
            {
                "spacing": [1, 1, 1],
                "datalist": [{"case": n, "image": f"{n}.PNG"} for n in "abcd"],
                "dataset_dir": str(Path(__file__).parent),
            },
            "spacing: expected null for pictures, which have no size in mm, got [1.0, 1.0, 1.0] with a.PNG. Fix: leave it out",
        ),
    ],
)
def test_a_spacing_that_cannot_be_is_one_line(tmp_path: Path, capsys: Any, given: dict[str, Any], line: str) -> None:
    assert refused(capsys, tmp_path, brats.configs("train.yaml"), **given).startswith(line)
