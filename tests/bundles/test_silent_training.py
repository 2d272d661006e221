"""Runs that would train on nothing, or on the wrong voxels, without a word: each is refused in one line, and writes nothing."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser

from tests.bundles import test_brats_bundle as brats
from tests.bundles import test_lidc_bundle as lidc
from tests.bundles import test_qubiq_bundle as qubiq
from tests.bundles.test_own_files import BRATS_OVERLAY, write_cases
from tests.nifti_files import load_nifti, save_nifti

BUNDLES = pytest.mark.parametrize("bundle", [brats, lidc, qubiq], ids=["brats", "lidc", "qubiq"])


def cases(bundle: ModuleType, root: Path, marked: int) -> str:
    shape = (20, 18) if bundle is qubiq else (20, 18, 8)
    data = write_cases(root / "set", shape, shape)
    for path in Path(data).rglob("reader*.nii.gz"):
        volume = load_nifti(path)
        values = np.asanyarray(volume.dataobj) * np.uint8(marked)
        save_nifti(path, values, volume.affine)
    return data


def train(bundle: ModuleType, root: Path, data: str, overlay: str, *names: str, **settings: Any) -> None:
    (root / "overlay.yaml").write_text(BRATS_OVERLAY + "channels: 1\nnormalize: zscore\n" + overlay)
    own = {**bundle.TINY, "epochs": 1, "dataset_dir": data} | ({} if bundle is qubiq else {"roi": [16, 16, 8]})
    bundle.start("train.yaml", *bundle.configs(*names), str(root / "overlay.yaml"), root=root, **own, **settings)


def refused(capsys: pytest.CaptureFixture[str], root: Path, *args: Any, **settings: Any) -> str:
    with pytest.raises(SystemExit) as caught:
        train(args[0], root, *args[1:], **settings)
    assert caught.value.code == 1
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("monai_jdt: error: ")
    assert "Fix: " in line
    assert not (root / "models").exists()
    assert not (root / "eval").exists()
    return line


@pytest.mark.parametrize(
    ("bundle", "values"),
    [
        (brats, "label_values: [0, 255]"),
        (brats, "label_values: null"),
        (lidc, "label_values: [0, 255]\nactivation: sigmoid"),
    ],
    ids=str,
)
def test_votes_whose_ignored_value_is_the_label(
    bundle: ModuleType, values: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = cases(bundle, tmp_path, marked=255)
    line = refused(capsys, tmp_path, bundle, data, f"regions: {{lesion: [255]}}\n{values}\n", "votes.yaml")
    assert "ignore_index" in line


# with a softmax votes are classes when raters are padded: no class is 255
@pytest.mark.parametrize(("bundle", "ignored"), [(brats, 254), (lidc, 255), (qubiq, 255)], ids=["brats", "lidc", "qubiq"])
def test_votes_of_0_and_255_are_trained_on(bundle: ModuleType, ignored: int, tmp_path: Path) -> None:
    data = cases(bundle, tmp_path, marked=255)
    overlay = "regions: {lesion: [255]}\nlabel_values: [0, 255]\n"
    train(bundle, tmp_path, data, overlay, "votes.yaml", **{"loss#ignore_index": ignored})
    assert (tmp_path / "models" / "model.pt").is_file()


@pytest.mark.parametrize("region", ["[0]", "[255]"])
@pytest.mark.parametrize(
    ("bundle", "given"),
    [(lidc, {"roi": [16, 16, 8], "crop": "whole", "spacing": None}), (qubiq, {"size": [24, 16]})],
    ids=["lidc", "qubiq"],
)
def test_votes_are_classes_whatever_the_values_in_the_files(
    bundle: ModuleType, given: dict[str, Any], region: str, tmp_path: Path
) -> None:
    data = cases(bundle, tmp_path, marked=255)
    (tmp_path / "overlay.yaml").write_text(BRATS_OVERLAY + f"regions: {{lesion: {region}}}\nlabel_values: [0, 255]\n")
    labels = []
    for names in ([], ["votes.yaml"]):
        files = [*bundle.configs("train.yaml", *names), str(tmp_path / "overlay.yaml")]
        parser = ConfigParser(ConfigParser.load_config_files(files))
        for key, value in {"bundle_root": str(tmp_path), "dataset_dir": data, "train#augmentations": [], **given}.items():
            parser[key] = value
        parser.parse()
        labels.append(parser.get_parsed_content("train#preprocessing")(parser.get_parsed_content("datalist")[0])["label"])
    average, votes = labels
    assert votes.dtype == torch.uint8
    assert votes.unique().tolist() == [0, 1]
    torch.testing.assert_close(votes.float().mean(0), average[1])


@BUNDLES
@pytest.mark.parametrize(
    ("marked", "overlay"),
    [
        (1, "regions: {lesion: [7]}\nlabel_values: [0, 1]\n"),
        (255, "regions: {lesion: [1]}\nlabel_values: [0, 255]\n"),
        (255, "regions: {lesion: [1]}\nlabel_values: null\n"),
        (1, "regions: {lesion: [1], rim: [2]}\nlabel_values: null\n"),
    ],
)
def test_regions_that_no_file_has(
    bundle: ModuleType, marked: int, overlay: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refused(capsys, tmp_path, bundle, cases(bundle, tmp_path, marked), overlay)
    assert "regions" in line


@pytest.mark.parametrize("bundle", [lidc, qubiq], ids=["lidc", "qubiq"])
def test_structures_that_overlap_under_a_softmax(bundle: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = cases(bundle, tmp_path, marked=1)
    line = refused(capsys, tmp_path, bundle, data, "regions: {whole: [1, 2], core: [2]}\nlabel_values: [0, 1, 2]\n")
    assert "regions" in line
