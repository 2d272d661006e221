"""Files and folders as users have them: pictures, one slice, ITK's vectors, and names with every character."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from PIL import Image

from monai_jdt.data import write_datalist
from tests.bundles import test_brats_bundle as brats
from tests.bundles import test_qubiq_bundle as qubiq
from tests.nifti_files import load_nifti, save_nifti

# every character that a shell, a pattern, a path or a config gives a meaning
ODD = 'O\'Brien [1-2] {a} *? "Ä~é" 50% $HOME @x & Co., Dr. Who'
AFFINE = np.array([[-0.7, 0.1, 0, 20], [0.1, 0.9, 0, -30], [0, 0, 5, 7], [0, 0, 0, 1.0]])
BRATS_OVERLAY = """
datalist: $bundle_start.exit_on_error(jdt_data.pattern_datalist, @data_dir, '{case}/ct.nii.gz', '{case}/reader{rater}.nii.gz')
regions: {lesion: [1]}
label_values: [0, 1]
"""
PICTURES_OVERLAY = """
datalist: $bundle_start.exit_on_error(jdt_data.pattern_datalist, @data_dir, '{case}.png', '{case}_{rater}.png')
normalize: photo
"""


def write_cases(folder: Path, image_shape: tuple[int, ...], mask_shape: tuple[int, ...]) -> str:
    """Three cases with one file of channels and two readers."""
    rng = np.random.default_rng(0)
    for case in ("a", "b", "c"):
        (folder / case).mkdir(parents=True)
        save_nifti(folder / case / "ct.nii.gz", rng.normal(size=image_shape).astype(np.float32), AFFINE)
        for reader in (1, 2):
            mask = np.zeros(mask_shape, np.uint8)
            mask[6 + reader : 12, 5:9] = 1
            save_nifti(folder / case / f"reader{reader}.nii.gz", mask, AFFINE)
    return str(folder)


def train_and_predict_volumes(root: Path, data: str, overlay: str, **settings: Any) -> list[nibabel.Nifti1Image]:
    (root / "overlay.yaml").write_text(BRATS_OVERLAY + overlay)
    settings = {**settings, "roi": [16, 16, 8]}
    brats.start("train.yaml", str(root / "overlay.yaml"), root=root, dataset_dir=data, **{**brats.TINY, **settings, "epochs": 1})
    assert (root / "eval" / "case.png").is_file()
    network: dict[str, Any] = {key: value for key, value in brats.NETWORK.items() if key != "roi"}
    brats.start("inference.yaml", root=root, dataset_dir=data, image_endings=["ct.nii.gz"], **network)
    return [load_nifti(path) for path in sorted((root / "eval" / "predictions").rglob("*.nii.gz"))]


@pytest.mark.parametrize("regions", ["{lesion: [1]}", "{lesion: [1], rest: [0]}"])
def test_a_volume_of_one_slice_keeps_its_shape_and_place(tmp_path: Path, regions: str) -> None:
    data = write_cases(tmp_path / "set", (20, 18, 1), (20, 18, 1))
    predictions = train_and_predict_volumes(tmp_path, data, f"channels: 1\nnormalize: zscore\nregions: {regions}\n")
    assert len(predictions) == 3
    for prediction in predictions:
        assert prediction.shape == ((20, 18, 1) if "rest" not in regions else (20, 18, 1, 2))
        np.testing.assert_allclose(prediction.affine, AFFINE, atol=1e-5)


def test_vectors_as_itk_writes_them_are_channels(tmp_path: Path) -> None:
    data = write_cases(tmp_path / "set", (20, 18, 9, 1, 2), (20, 18, 9))
    predictions = train_and_predict_volumes(tmp_path, data, "channels: 2\nnormalize: zscore\n")
    assert [prediction.shape for prediction in predictions] == [(20, 18, 9)] * 3
    np.testing.assert_allclose(predictions[0].affine, AFFINE, atol=1e-5)


@pytest.mark.parametrize("shape", [(20, 18), (20, 18, 1)])
def test_flat_images_keep_their_shape_and_place(tmp_path: Path, shape: tuple[int, ...]) -> None:
    data = write_cases(tmp_path / "set", shape, shape)
    (tmp_path / "overlay.yaml").write_text(BRATS_OVERLAY)
    qubiq.start("train.yaml", str(tmp_path / "overlay.yaml"), root=tmp_path, dataset_dir=data, **qubiq.TINY)
    qubiq.start("inference.yaml", root=tmp_path, dataset_dir=data, image_name="ct.nii.gz", **qubiq.SMALL_NET)
    for case in "abc":
        prediction = load_nifti(tmp_path / "eval" / "predictions" / case / "task01.nii.gz")
        assert prediction.shape == shape
        np.testing.assert_allclose(prediction.affine, AFFINE, atol=1e-5)


def write_pictures(folder: Path, mode: str, marked: int, unmarked: int) -> str:
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for case in ("B01", "B02", "B03", "B04"):
        height, width = 22, 17
        bands = len(Image.new(mode, (1, 1)).getbands())
        pixels = rng.integers(0, 256, (height, width, bands), np.uint8)
        Image.fromarray(pixels if bands > 1 else pixels[..., 0]).save(folder / f"{case}.png")
        for rater in (1, 2):
            mask = np.full((height, width), unmarked, np.uint8)
            mask[4 : 10 + rater, 3:12] = marked
            # one rater's tool writes 1 bit, grey or colours, another's something else
            picture = Image.fromarray(mask)
            kind = {("L", 1): "1", ("RGB", 1): "RGB", ("RGBA", 1): "RGBA"}.get((mode, rater), "L")
            picture.convert(kind if {marked, unmarked} == {0, 255} else "L").save(folder / f"{case}_{rater}.png")
    return str(folder)


@pytest.mark.parametrize(
    ("mode", "masks", "overlay"),
    [
        ("L", (1, 0), "regions: {cell: [1]}\n"),
        ("RGB", (255, 0), "channels: 3\nregions: {cell: [255]}\nlabel_values: [0, 255]\n"),
        ("RGBA", (0, 255), "channels: 4\nregions: {cell: [0]}\nlabel_values: [0, 255]\n"),
        # 1-bit masks hold 0 and 1, grey ones 0 and 255
        ("L", (255, 0), "regions: {cell: [1, 255]}\nlabel_values: [0, 1, 255]\n"),
    ],
)
def test_pictures_are_trained_on_and_predicted(tmp_path: Path, mode: str, masks: tuple[int, int], overlay: str) -> None:
    data = write_pictures(tmp_path / "set", mode, *masks)
    (tmp_path / "overlay.yaml").write_text(PICTURES_OVERLAY + overlay)
    settings: dict[str, Any] = {**qubiq.TINY, "dataset_dir": data}
    qubiq.start("train.yaml", str(tmp_path / "overlay.yaml"), root=tmp_path, **settings)
    assert (tmp_path / "eval" / "case.png").is_file()
    settings = {**qubiq.SMALL_NET, "dataset_dir": data, "image_name": "B??.png"}
    qubiq.start("inference.yaml", root=tmp_path, **settings)
    qubiq.start("inference.yaml", root=tmp_path, prediction_name="cell.png", output_dir=str(tmp_path / "png"), **settings)
    for case in ("B01", "B02", "B03", "B04"):
        prediction = load_nifti(tmp_path / "eval" / "predictions" / case / "task01.nii.gz")
        assert prediction.shape == (17, 22)  # x, y
        assert prediction.get_data_dtype() == np.float32
        picture = np.asarray(Image.open(tmp_path / "png" / case / "cell.png"))
        np.testing.assert_allclose(picture / 255, prediction.get_fdata().T, atol=1 / 255)


def test_marked_pixels_are_those_of_the_region(tmp_path: Path) -> None:
    # black is the cell
    data = write_pictures(tmp_path / "set", "L", 0, 255)
    (tmp_path / "overlay.yaml").write_text(PICTURES_OVERLAY + "regions: {cell: [0]}\nlabel_values: [0, 1, 255]\n")
    names = [*qubiq.configs("train.yaml"), str(tmp_path / "overlay.yaml")]
    settings: dict[str, Any] = {"bundle_root": str(tmp_path), "dataset_dir": data, "size": [24, 16], "train#augmentations": []}
    parser = qubiq.ConfigParser(qubiq.ConfigParser.load_config_files(names))
    for key, value in settings.items():
        parser[key] = value
    parser.parse()
    items = parser.get_parsed_content("datalist")
    label = parser.get_parsed_content("train#preprocessing")(items[0])["label"]
    # 9 of 17 columns, 7 and 8 of 22 rows
    assert float(label[1].mean()) == pytest.approx(9 / 17 * 7.5 / 22, rel=0.15)


def test_masks_of_0_and_255_name_the_keys_to_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_pictures(tmp_path / "set", "RGB", 255, 0)
    (tmp_path / "overlay.yaml").write_text(PICTURES_OVERLAY + "channels: 3\n")
    with pytest.raises(SystemExit):
        qubiq.start("train.yaml", str(tmp_path / "overlay.yaml"), root=tmp_path, dataset_dir=data, **qubiq.TINY)
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert "255" in line
    assert "`label_values` and `regions`" in line


def test_raters_on_another_grid_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # a crowd that drew on a crop of the image
    data = write_pictures(tmp_path / "set", "L", 1, 0)
    for path in Path(data).glob("*_2.png"):
        Image.open(path).crop((2, 3, 15, 20)).save(path)
    (tmp_path / "overlay.yaml").write_text(PICTURES_OVERLAY)
    with pytest.raises(SystemExit):
        qubiq.start("train.yaml", str(tmp_path / "overlay.yaml"), root=tmp_path, dataset_dir=data, **qubiq.TINY)
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert "expected shape (17, 22), as " in line
    assert "Fix: " in line


def test_a_picture_cannot_hold_several_structures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "model.pt").touch()
    data = write_pictures(tmp_path / "set", "L", 1, 0)
    with pytest.raises(SystemExit) as caught:
        qubiq.start("inference.yaml", root=tmp_path, dataset_dir=data, prediction_name="x.png", out_channels=3, image_name="*.png")
    line = str(caught.value.code) if caught.value.code != 1 else capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("monai_jdt: error: prediction_name: expected")


@pytest.mark.parametrize("bundle", [brats, qubiq], ids=["brats", "qubiq"])
def test_folders_may_have_any_name(tmp_path: Path, bundle: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = tmp_path / ODD
    flat = bundle is qubiq
    data = write_cases(odd / "Data Sets", (20, 18) if flat else (20, 18, 8), (20, 18) if flat else (20, 18, 8))
    for case in ("a", "b"):
        os.rename(odd / "Data Sets" / case, odd / "Data Sets" / f"{case} [x] O'Neil")
    overlay = odd / "own overlay.yaml"
    overlay.write_text(BRATS_OVERLAY + ("" if flat else "channels: 1\nnormalize: ct\n"))
    folders = {"output_dir": str(odd / "out [1]"), "ckpt_dir": str(odd / "Weights é")}
    settings: dict[str, Any] = {**bundle.TINY, "epochs": 1, "dataset_dir": data, **folders}
    size = {} if flat else {"roi": [16, 16, 8]}
    bundle.start("train.yaml", str(overlay), root=odd / "root's", **{**settings, **size})
    assert sorted(os.listdir(odd / "Weights é")) == ["last.pt", "model.json", "model.pt"]
    bundle.start("train.yaml", bundle.configs("evaluate.yaml")[0], str(overlay), root=odd / "root's", **{**settings, **size})
    assert (odd / "out [1]" / "metrics.csv").is_file()
    assert (odd / "out [1]" / "case.png").is_file()
    network: dict[str, Any] = {k: v for k, v in bundle.TINY.items() if k.startswith("network_def")}
    images: dict[str, Any] = {"image_name": "ct.nii.gz"} if flat else {"image_endings": ["ct.nii.gz"]}
    places: dict[str, Any] = {"ckpt_path": str(odd / "Weights é" / "model.pt"), "dataset_dir": data, "output_dir": str(odd / "out [2]")}
    bundle.start("inference.yaml", root=odd / "root's", **network, **images, **places)
    names = {path.relative_to(odd / "out [2]").parts[0] for path in (odd / "out [2]").rglob("*.nii.gz")}
    assert names == {"a [x] O'Neil", "b [x] O'Neil", "c"}
    assert not (tmp_path / "eval").exists()


@pytest.mark.parametrize("key", ["dataset_dir", "output_dir", "ckpt_dir"])
def test_a_number_sign_is_one_line(tmp_path: Path, key: str, capsys: pytest.CaptureFixture[str]) -> None:
    """MONAI would read it as `::`, and write a folder of that name."""
    (tmp_path / "set #2").mkdir()
    (tmp_path / "set #2" / "scan.nii.gz").touch()
    with pytest.raises(SystemExit):
        qubiq.start("train.yaml", root=tmp_path, **{**qubiq.TINY, key: str(tmp_path / "set #2")})
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith(f"monai_jdt: error: {key}: expected a path without # or ::")
    assert [path.name for path in tmp_path.iterdir()] == ["set #2"]


@pytest.mark.parametrize("bundle", [brats, qubiq], ids=["brats", "qubiq"])
def test_a_tilde_is_the_users_home(tmp_path: Path, bundle: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    small = {"phantoms": {"cases": 2, "shape": [16, 16, 16] if bundle is brats else [16, 16]}, "val_fraction": 0.5}
    if bundle is qubiq:
        del small["val_fraction"]
    settings: dict[str, Any] = {**bundle.TINY, "epochs": 1, **small}
    bundle.start("train.yaml", root="~/run", **settings, output_dir="~/out")
    home = tmp_path / "home"
    for path in ("run/models/model.pt", "run/data", "out/case.png", "out/tensorboard"):
        assert (home / path).exists(), path
    network: dict[str, Any] = {k: v for k, v in bundle.TINY.items() if k.startswith("network_def")}
    bundle.start("inference.yaml", root="~/run", **network, ckpt_path="~/run/models/model.pt", phantoms=small["phantoms"])
    assert len(list((home / "run" / "eval" / "predictions").rglob("*.nii.gz"))) == 2
    assert os.listdir(tmp_path) == ["home"]


@pytest.mark.parametrize("bundle", [brats, qubiq], ids=["brats", "qubiq"])
def test_a_data_list_takes_the_place_of_a_folder(tmp_path: Path, bundle: Any, capsys: pytest.CaptureFixture[str]) -> None:
    shape = (20, 18) if bundle is qubiq else (20, 18, 8)
    data = Path(write_cases(tmp_path / "set", shape, shape))
    items = [
        {"case": case, "image": str(data / case / "ct.nii.gz"), "raters": [str(data / case / f"reader{r}.nii.gz") for r in (1, 2)]}
        for case in "abc"
    ]
    listed = write_datalist(items, tmp_path / "lists" / "mine.json")
    own = {"regions": {"lesion": [1]}, "label_values": [0, 1], "datalist_file": listed, "epochs": 1}
    own |= {"channels": 1, "roi": [16, 16, 8], "normalize": "zscore"} if bundle is brats else {}
    bundle.start("train.yaml", root=tmp_path, **{**bundle.TINY, **own})
    network: dict[str, Any] = {k: v for k, v in bundle.TINY.items() if k.startswith("network_def")}
    bundle.start("inference.yaml", root=tmp_path, datalist_file=listed, **network)
    found = {
        path.relative_to(tmp_path / "eval" / "predictions").parts[0] for path in (tmp_path / "eval" / "predictions").rglob("*.nii.gz")
    }
    assert found == {"a", "b", "c"}
    with pytest.raises(SystemExit):
        bundle.start("train.yaml", root=tmp_path, dataset_dir=str(data), **{**bundle.TINY, **own})
    assert "datalist_file: expected null with a dataset_dir" in capsys.readouterr().err.strip().splitlines()[-1]
