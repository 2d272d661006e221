"""The bundle as a user runs it, on tiny phantoms and in this process: files in, files out, and one line for bad data."""

import glob
import gzip
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.bundle import run

from monai_jdt.data import write_brats_phantoms
from tests.nifti_files import load_nifti, save_nifti, write_nifti

BUNDLE = Path(__file__).parents[2] / "bundles" / "brats_multirater_segmentation"
TINY: dict[str, Any] = {
    "roi": [16, 16, 16],
    "epochs": 2,
    "val_interval": 1,
    "network_def#blocks_down": [1, 1],
    "network_def#blocks_up": [1],
    "show_progress": False,
}
NETWORK: dict[str, Any] = {key: value for key, value in TINY.items() if key.startswith("network_def") or key == "roi"}
ENDINGS = ("t1ce", "t1", "t2", "flair")


def configs(*names: str) -> list[str]:
    return [str(BUNDLE / "configs" / name) for name in names]


def start(*names: str, root: Path | str, **overrides: Any) -> None:
    # the logging file would bind a handler to the standard output of this test
    run(config_file=configs(*names), bundle_root=str(root), **{"logging_file": False, **overrides})


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_brats_phantoms(tmp_path_factory.mktemp("data") / "set", cases=4, shape=(16, 16, 16), progress=False)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, phantoms: str) -> Path:
    root = tmp_path_factory.mktemp("bundle")
    start("train.yaml", root=root, dataset_dir=phantoms, **TINY)
    return root


def test_training_writes_weights_events_and_a_picture(trained: Path) -> None:
    weights = torch.load(trained / "models" / "model.pt", weights_only=True)
    assert all(isinstance(value, torch.Tensor) for value in weights.values())
    assert sorted(os.listdir(trained / "models")) == ["last.previous.pt", "last.pt", "model.json", "model.pt"]
    assert (trained / "eval" / "case.png").stat().st_size > 10_000
    assert os.listdir(trained / "eval" / "tensorboard")


def test_evaluation_writes_tables(trained: Path, phantoms: str) -> None:
    start("train.yaml", "evaluate.yaml", root=trained, dataset_dir=phantoms, **TINY)
    table = (trained / "eval" / "metrics.csv").read_text()
    assert all(name in table for name in ("val_mean_dice", "val_dice_TC", "val_dice_WT", "val_dice_ET"))
    rows = (trained / "eval" / "val_mean_dice_raw.csv").read_text().splitlines()
    assert len(rows) == 2  # a header and one validation case
    assert "_t1ce.nii.gz" in rows[1]


def test_predictions_of_images_without_raters(trained: Path, phantoms: str, tmp_path: Path) -> None:
    data = tmp_path / "unlabelled"
    for case in ("one", "two"):  # one base name in two folders
        (data / case).mkdir(parents=True)
        for ending in ENDINGS:
            source = glob.glob(f"{phantoms}/*00001/*_{ending}.nii.gz")[0]
            volume = load_nifti(source)
            # MONAI's reader would put them at the origin, in voxels of 1.75 mm
            write_nifti(data / case / f"image_{ending}.nii.gz", volume.get_fdata(dtype=np.float32), volume.affine, pixdim=[1.75] * 3)
    out = tmp_path / "out"
    start("inference.yaml", root=trained, dataset_dir=str(data), output_dir=str(out), **NETWORK)
    found = sorted(str(p.relative_to(out)) for p in out.rglob("*.nii.gz"))
    assert found == ["one/image_t1ce_prob.nii.gz", "two/image_t1ce_prob.nii.gz"]
    prediction = load_nifti(out / found[0])
    image = load_nifti(data / "one" / "image_t1ce.nii.gz")
    assert prediction.shape == (16, 16, 16, 3)
    assert prediction.get_data_dtype() == np.float32
    np.testing.assert_allclose(prediction.affine, image.affine, atol=1e-5)
    values = prediction.get_fdata()
    assert values.min() >= 0
    assert values.max() <= 1
    assert values.std() > 0


def test_another_data_set_needs_an_overlay_only(tmp_path: Path) -> None:
    # three contrasts, one structure, raters in folders of their own
    rng = np.random.default_rng(0)
    for case in ("a", "b", "c"):
        folder = tmp_path / "spine" / case
        folder.mkdir(parents=True)
        label = np.zeros((20, 18, 8), np.uint8)
        label[8:12, 7:11] = 1
        volumes = {f"T{c}w": (rng.normal(size=label.shape) + label * c).astype(np.float32) for c in (1, 2, 3)}
        volumes |= {f"cord_rater{r}": np.roll(label, r, 0) for r in range(3)}
        for name, values in volumes.items():
            save_nifti(folder / f"{name}.nii.gz", values, np.eye(4))
    overlay = tmp_path / "spine.yaml"
    overlay.write_text(
        "datalist: $bundle_start.exit_on_error(jdt_data.pattern_datalist, @data_dir, ['{case}/T1w.nii.gz', '{case}/T2w.nii.gz', "
        "'{case}/T3w.nii.gz'], '{case}/cord_rater{rater}.nii.gz')\n"
        "channels: 3\nregions: {cord: [1]}\nlabel_values: [0, 1]\n"
    )
    root = tmp_path / "run"
    run(
        config_file=[*configs("train.yaml"), str(overlay)],
        bundle_root=str(root),
        dataset_dir=str(tmp_path / "spine"),
        **{**TINY, "roi": [16, 16, 8], "logging_file": False},
    )
    assert (root / "models" / "model.pt").exists()
    assert (root / "eval" / "case.png").exists()


def rewrite(path: str, change: Callable[[np.ndarray], np.ndarray], affine: np.ndarray | None = None) -> None:
    volume = load_nifti(path)
    values = change(np.asanyarray(volume.dataobj))
    save_nifti(path, values, volume.affine if affine is None else affine)


def with_nan(values: np.ndarray) -> np.ndarray:
    values = values.astype(np.float32)
    values[3, 3, 3] = np.nan
    return values


def with_seven(values: np.ndarray) -> np.ndarray:
    values = values.copy()
    values[3, 3, 3] = 7
    return values


BREAKS: dict[str, Callable[..., object]] = {
    "truncated": lambda image, raters: Path(image).write_bytes(Path(image).read_bytes()[:500]),
    "garbage": lambda image, raters: Path(raters[0]).write_bytes(gzip.compress(b"no image at all" * 50)),
    "other shape": lambda image, raters: rewrite(raters[0], lambda v: v[:-1]),
    "other affine": lambda image, raters: rewrite(raters[0], lambda v: v, np.diag([3.0, 3, 3, 1])),
    "nan": lambda image, raters: rewrite(image, with_nan),
    "unknown label": lambda image, raters: rewrite(raters[0], with_seven),
    "no channel": lambda image, raters: os.remove(image),
    "no rater": lambda image, raters: list(map(os.remove, glob.glob(os.path.dirname(image) + "/*_seg*"))),
}


@pytest.mark.parametrize("kind", ["absent", "empty", *BREAKS])
def test_bad_data_end_with_one_line(kind: str, phantoms: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "set"
    if kind == "empty":
        data.mkdir()
    elif kind != "absent":
        shutil.copytree(phantoms, data)
        case = data / "BraTS2021_00002"
        BREAKS[kind](str(case / "BraTS2021_00002_t1.nii.gz"), sorted(map(str, case.glob("*rater*"))))
    with pytest.raises(SystemExit) as caught:
        start("train.yaml", root=tmp_path / "run", dataset_dir=str(data), **TINY)
    assert caught.value.code == 1
    line = capsys.readouterr().err.rstrip("\n").splitlines()[-1]
    assert line.startswith("monai_jdt: error: ")
    assert ("BraTS2021_00002" if kind in BREAKS else f"dataset_dir {data}") in line
    assert "expected" in line
    assert "Fix:" in line
    assert not (tmp_path / "run" / "models").exists()


@pytest.mark.parametrize("kind", ["no channel", "nan", "truncated", "no image"])
def test_bad_images_end_inference_with_one_line(
    kind: str, trained: Path, phantoms: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "set"
    if kind == "no image":
        data.mkdir()
        (data / "readme.txt").write_text("")
    else:
        shutil.copytree(phantoms, data)
        BREAKS[kind](str(data / "BraTS2021_00002" / "BraTS2021_00002_t1.nii.gz"), [])
    with pytest.raises(SystemExit) as caught:
        start("inference.yaml", root=trained, dataset_dir=str(data), output_dir=str(tmp_path / "out"), **NETWORK)
    # sys.exit with words prints them and ends with 1
    line = str(caught.value.code) if caught.value.code != 1 else capsys.readouterr().err.rstrip("\n").splitlines()[-1]
    assert line.startswith("monai_jdt: error: ")
    assert (f"dataset_dir {data}" if kind == "no image" else "BraTS2021_00002_t1.nii.gz") in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("names", [["train.yaml", "evaluate.yaml"], ["inference.yaml"]])
def test_a_missing_checkpoint_is_one_line(names: list[str], phantoms: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        start(*names, root=tmp_path, dataset_dir=phantoms)
    line = str(caught.value.code) if caught.value.code != 1 else capsys.readouterr().err.rstrip("\n").splitlines()[-1]
    assert line.startswith(f"monai_jdt: error: {tmp_path}/models/model.pt: expected a checkpoint")


def test_a_loss_that_is_not_finite_ends_the_run(phantoms: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        start("train.yaml", root=tmp_path, dataset_dir=phantoms, **TINY, **{"optimizer#lr": float("inf")})
    assert caught.value.code == 1
    line = capsys.readouterr().err.rstrip("\n").splitlines()[-1]
    assert line.startswith("monai_jdt: error: the loss is nan in epoch 1, iteration 2")
    assert "BraTS2021_0000" in line


def test_nothing_is_in_the_bundle_that_a_run_writes() -> None:
    ours = {"LICENSE", "configs", "docs"}
    # a development checkout may have run; what is shipped is listed in setup.cfg
    assert ours <= set(os.listdir(BUNDLE))
    assert set(os.listdir(BUNDLE / "configs")) >= {"train.yaml", "evaluate.yaml", "inference.yaml", "metadata.json", "logging.conf"}


def test_inference_needs_no_monai_jdt(tmp_path: Path, phantoms: str, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "monai_jdt"]:
        monkeypatch.setitem(sys.modules, name, None)
    start("inference.yaml", root=trained, dataset_dir=phantoms, output_dir=str(tmp_path / "alone"), **NETWORK)
    assert len(glob.glob(str(tmp_path / "alone" / "**" / "*_prob.nii.gz"), recursive=True)) == 4
    # masks by an expected score need it
    with pytest.raises(SystemExit, match="monai_jdt: error: decision: expected threshold without save_masks where monai_jdt is not"):
        start("inference.yaml", root=trained, dataset_dir=phantoms, decision="expected_dice", **NETWORK)


def test_the_last_epoch_is_validated_whatever_the_interval(tmp_path: Path, phantoms: str) -> None:
    start("train.yaml", root=tmp_path, dataset_dir=phantoms, **{**TINY, "epochs": 1, "val_interval": 5})
    assert (tmp_path / "models" / "model.pt").is_file()
    assert (tmp_path / "eval" / "case.png").is_file()


@pytest.mark.parametrize(
    ("setting", "value", "says"),
    [
        ("regions", "brats2022", "regions: expected a convention (brats2018, brats2021, brats2023, "),
        ("roi", [13, 16, 16], "roi: expected multiples of 2"),
        ("epochs", 0, "epochs: expected a whole number >= 1"),
    ],
)
def test_a_wrong_setting_is_one_line(
    tmp_path: Path, phantoms: str, capsys: pytest.CaptureFixture[str], setting: str, value: list[int] | int | str, says: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        start("train.yaml", root=tmp_path, dataset_dir=phantoms, **{**TINY, setting: value})
    assert caught.value.code == 1
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("monai_jdt: error: ")
    assert says in last


def test_weights_of_another_network_are_one_line(trained: Path, phantoms: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        start("inference.yaml", root=trained, dataset_dir=phantoms, out_channels=1, **NETWORK)
    assert caught.value.code == 1
    assert "expected weights that fit the network" in capsys.readouterr().err.strip().splitlines()[-1]
