"""How an image is normalised: one key, with the same choices in training and inference, which the weights remember."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from monai.bundle import ConfigParser

from monai_jdt.data import write_brats_phantoms, write_qubiq_phantoms
from monai_jdt.handlers import TrainedSettingsWriter, check_trained_settings
from tests.bundles import test_brats_bundle as brats
from tests.bundles import test_qubiq_bundle as qubiq
from tests.nifti_files import load_nifti, save_nifti

CHOICES = ("mr", "zscore", "ct", "percentiles", "photo", "none")
BUNDLES = pytest.mark.parametrize("bundle", [brats, qubiq], ids=["brats", "qubiq"])


def write_ct(folder: Path, shape: tuple[int, ...]) -> tuple[Path, Path]:
    """HU from -1000 to 1000 in steps of 1, so that -1, 0 and 1 are there, and a rater."""
    folder.mkdir(parents=True)
    values = (np.arange(np.prod(shape)) % 2001 - 1000).reshape(shape).astype(np.int16)
    affine = np.diag([2.0, 3, 4, 1])
    save_nifti(folder / "ct.nii.gz", values, affine)
    save_nifti(folder / "reader1.nii.gz", (values > 900).astype(np.uint8), affine)
    return folder / "ct.nii.gz", folder / "reader1.nii.gz"


def content(bundle: ModuleType, name: str, root: Path, **overrides: Any) -> ConfigParser:
    parser = ConfigParser(ConfigParser.load_config_files(bundle.configs(name)))
    if bundle is qubiq:
        overrides = {"size": [64, 64], **overrides}
    for key, value in {"bundle_root": str(root), **overrides}.items():
        parser[key] = value
    parser.parse()
    return parser


def as_trained(bundle: ModuleType, files: tuple[Path, Path], root: Path, **overrides: Any) -> np.ndarray:
    parser = content(bundle, "train.yaml", root, channels=1, label_values=[0, 1], regions={"lesion": [1]}, **overrides)
    item = {"case": "a", "image": str(files[0]), "raters": [str(files[1])]}
    return np.asarray(parser.get_parsed_content("validate#preprocessing")(item)["image"])


def as_predicted(bundle: ModuleType, files: tuple[Path, Path], root: Path, **overrides: Any) -> np.ndarray:
    parser = content(bundle, "inference.yaml", root, channels=1, **overrides)
    return np.asarray(parser.get_parsed_content("preprocessing")({"case": "a", "image": str(files[0])})["image"])


def shape_of(bundle: ModuleType) -> tuple[int, ...]:
    return (16, 16, 16) if bundle is brats else (64, 64)


@BUNDLES
@pytest.mark.parametrize("choice", CHOICES)
def test_training_and_inference_normalise_alike(bundle: ModuleType, choice: str, tmp_path: Path) -> None:
    files = write_ct(tmp_path / "a", shape_of(bundle))
    trained = as_trained(bundle, files, tmp_path, normalize=choice, window=[-100, 200])
    predicted = as_predicted(bundle, files, tmp_path, normalize=choice, window=[-100, 200])
    np.testing.assert_array_equal(trained, predicted)
    values = load_nifti(files[0]).get_fdata()
    by_hand = {
        "mr": np.where(values != 0, (values - values[values != 0].mean()) / values[values != 0].std(), 0),
        "zscore": (values - values.mean()) / values.std(),
        "ct": np.clip((values + 100) / 300, 0, 1),
        "photo": np.clip(values / 255, 0, 1),
        "none": values,
    }
    if choice in by_hand:
        np.testing.assert_allclose(trained[0], by_hand[choice], atol=1e-4, rtol=1e-4)
    else:
        assert (trained.min(), trained.max()) == (0, 1)
        low, high = np.percentile(values, [0.5, 99.5])
        np.testing.assert_allclose(trained[0], np.clip((values - low) / (high - low), 0, 1), atol=2e-3)


@BUNDLES
def test_water_lies_between_its_neighbours_in_ct(bundle: ModuleType, tmp_path: Path) -> None:
    files = write_ct(tmp_path / "a", shape_of(bundle))
    image = as_trained(bundle, files, tmp_path, normalize="ct")[0]
    values = load_nifti(files[0]).get_fdata()
    below, water, above = (float(image[values == hu][0]) for hu in (-1, 0, 1))
    assert below < water < above
    assert water - below == pytest.approx(above - water, rel=1e-3)


@BUNDLES
def test_both_configs_have_the_same_choices(bundle: ModuleType) -> None:
    train, inference = (ConfigParser.load_config_files(bundle.configs(f"{name}.yaml")) for name in ("train", "inference"))
    assert train["normalizations"] == inference["normalizations"]
    assert set(train["normalizations"]) == set(CHOICES)
    readme = (Path(bundle.configs("train.yaml")[0]).parents[1] / "docs" / "README.md").read_text()
    assert all(f"`{choice}`" in readme for choice in CHOICES)


@pytest.fixture(scope="module")
def trained_on_ct(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    root = tmp_path_factory.mktemp("bundle")
    data = write_qubiq_phantoms(root / "set", datasets="prostate", cases=4, shape=(16, 20), progress=False)
    qubiq.start("train.yaml", root=root, dataset_dir=data, normalize="ct", window=[-3, 3], **qubiq.TINY)
    return root, data


def test_inference_takes_what_the_weights_were_trained_with(trained_on_ct: tuple[Path, str], tmp_path: Path) -> None:
    root, data = trained_on_ct
    saved = json.loads((root / "models" / "model.json").read_text())
    assert (saved["normalize"], saved["window"], saved["size"]) == ("ct", [-3, 3], [16, 16])
    parser = content(qubiq, "inference.yaml", root)
    assert [parser.get_parsed_content(key) for key in ("normalize", "window")] == ["ct", [-3, 3]]
    network: dict[str, Any] = {key: value for key, value in qubiq.SMALL_NET.items() if key != "size"}
    qubiq.start("inference.yaml", root=root, dataset_dir=data, output_dir=str(tmp_path), **network)
    assert len(list(tmp_path.rglob("*.nii.gz"))) == 4


@pytest.mark.parametrize("names", [["train.yaml", "evaluate.yaml"], ["inference.yaml"]])
@pytest.mark.parametrize(("key", "value"), [("normalize", "mr"), ("window", [-3, 4]), ("normalize", "CT")])
def test_another_normalisation_than_in_training_is_refused(
    trained_on_ct: tuple[Path, str], names: list[str], key: str, value: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    root, data = trained_on_ct
    settings = {"normalize": "ct", "window": [-3, 3], key: value, "output_dir": str(tmp_path / "out")}
    overrides: dict[str, Any] = {**qubiq.SMALL_NET, **settings} if names == ["inference.yaml"] else {**qubiq.TINY, **settings}
    with pytest.raises(SystemExit) as caught:
        qubiq.start(*names, root=root, dataset_dir=data, **overrides)
    line = str(caught.value.code) if caught.value.code != 1 else capsys.readouterr().err.rstrip("\n").splitlines()[-1]
    assert line.startswith(f"monai_jdt: error: {key}: expected ")
    assert "Fix:" in line
    assert not (tmp_path / "out").exists()


@BUNDLES
def test_an_unknown_choice_is_one_line(bundle: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if bundle is brats:
        data = write_brats_phantoms(tmp_path / "set", cases=2, shape=(16, 16, 16), progress=False)
    else:
        data = write_qubiq_phantoms(tmp_path / "set", datasets="prostate", cases=2, shape=(16, 20), progress=False)
    with pytest.raises(SystemExit) as caught:
        bundle.start("train.yaml", root=tmp_path, dataset_dir=data, normalize="mri", **bundle.TINY)
    assert caught.value.code == 1
    assert capsys.readouterr().err.rstrip("\n").splitlines()[-1].startswith("monai_jdt: error: normalize: expected")


def test_settings_are_compared_as_json_keeps_them(tmp_path: Path) -> None:
    weights = tmp_path / "model.pt"
    check_trained_settings(weights, {"window": (0, 1)}, ["window"])  # nothing to compare with
    TrainedSettingsWriter(tmp_path / "model.json", {"window": (0, 1), "size": [8, 8]})(None)  # type: ignore[arg-type]
    check_trained_settings(weights, {"window": [0, 1], "size": [16, 16]}, ["window"])
    with pytest.raises(ValueError, match=r"window: expected \[0, 1\], as .*model.pt was trained, got \[0, 2\]. Fix: --window \[0, 1\]"):
        check_trained_settings(weights, {"window": [0, 2]}, ["window"])
    assert [path.name for path in tmp_path.iterdir()] == ["model.json"]
    shutil.rmtree(tmp_path)
