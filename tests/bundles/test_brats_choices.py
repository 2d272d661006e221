"""The BraTS bundle's label sources, and its two dimensions: slices of volumes, and images of two axes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.transforms.utils import map_binary_to_indices

from monai_jdt.data import write_datalist
from monai_jdt.report.run_folder import read_scores
from tests.bundles import test_brats_bundle as brats
from tests.bundles import test_qubiq_bundle as qubiq
from tests.bundles.test_own_files import AFFINE
from tests.nifti_files import load_nifti, save_nifti

OWN: dict[str, Any] = {"channels": 1, "normalize": "zscore", "regions": {"lesion": [1], "rest": [0]}, "label_values": [0, 1]}
FLAT: dict[str, Any] = {**brats.TINY, **OWN, "spatial_dims": 2, "roi": [16, 16], "epochs": 1}


def listed(folder: Path, shape: tuple[int, ...]) -> str:
    """Three cases with three raters; the last one marks a voxel that no other does."""
    rng, items = np.random.default_rng(0), []
    for case in "abc":
        (folder / case).mkdir(parents=True)
        save_nifti(folder / case / "ct.nii.gz", rng.normal(size=shape).astype(np.float32), AFFINE)
        for rater in range(3):
            labels = np.zeros(shape, np.uint8)
            labels[6 + rater : 12, 5:9] = 1
            labels[0, 0] = rater == 2
            save_nifti(folder / case / f"r{rater}.nii.gz", labels, AFFINE)
        raters = [str(folder / case / f"r{rater}.nii.gz") for rater in range(3)]
        items.append({"case": case, "image": str(folder / case / "ct.nii.gz"), "raters": raters, "fold": int(case == "c")})
    return write_datalist(items, folder / "list.json")


def resolved(root: Path, path: str, *ids: str, **given: Any) -> list[Any]:
    parser = ConfigParser(ConfigParser.load_config_files(brats.configs("train.yaml")))
    for key, value in {"bundle_root": str(root), "datalist_file": path, **OWN, "roi": [8, 8, 8], "crops": 1, **given}.items():
        parser[key] = value
    parser.parse()
    return [parser.get_parsed_content(name) for name in ids]


@pytest.mark.parametrize("source", qubiq.SOURCES)
def test_each_label_source_makes_its_label(tmp_path: Path, source: str) -> None:
    """Crops of 16 x 16 x 16 hold the whole case. The voxel that one rater marked stays a place for the centre of a crop."""
    path = listed(tmp_path / "set", (16, 16, 16))
    given = {"label_source": source, "roi": [16, 16, 16], "train#augmentations": []}
    ids = "split", "train#preprocessing", "read_case", "train#deterministic_transforms"
    split, transform, read, marked = resolved(tmp_path, path, *ids, **given)
    (item,) = transform(split[1][0])
    corner, edge, inner = (float(item["label"][0][place]) for place in ((0, 0, 3), (7, 6, 3), (9, 6, 3)))
    assert inner == pytest.approx(1, abs=1e-3)
    if source == "random_rater":
        drawn = [transform(split[1][0])[0]["label"][0] for _ in range(30)]
        labels = {(float(label[0, 0, 3]), float(label[7, 6, 3])) for label in drawn}
        # rater 0 marks the edge, rater 1 the edge as well, rater 2 the corner
        assert labels == {(0, 1), (1, 0)}
        return
    expected = {"average": (1 / 3, 2 / 3), "majority": (0, 1)}.get(source)
    if expected is not None:
        assert (corner, edge) == pytest.approx(expected, abs=1e-5)
    else:  # between the average and the majority
        assert corner < 1 / 3
        assert edge > 2 / 3
    item = split[1][0]
    for step in [*read, *marked]:
        item = step(item)
    assert torch.as_tensor(item["marked"]).unique().tolist() == [1]  # `rest` is a region, too
    # a voxel is the centre of a crop around a mark, or of one elsewhere, never of both
    some = torch.as_tensor(item["marked"]).clone()
    some[0, :8] = 0
    around, elsewhere = map_binary_to_indices(some)
    assert (len(around), len(elsewhere)) == (8 * 256, 8 * 256)


@pytest.mark.parametrize("shape", [(20, 18), (20, 18, 1), (20, 18, 5)], ids=str)
def test_slices_and_flat_images_from_files_to_files(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = listed(tmp_path / "set", shape)
    if shape == (20, 18, 1):  # the label alone
        split, transform = resolved(tmp_path, path, "split", "train#preprocessing", spatial_dims=2, roi=[8, 8])
        assert transform(split[0][0])[0]["label"].shape == (2, 8, 8)
        return
    # a run with a rater for each crop, too
    given = {**FLAT, "datalist": path, "label_source": "random_rater" if len(shape) == 2 else "average"}
    brats.start("train.yaml", root=tmp_path, **given)
    assert (tmp_path / "eval" / "case.png").stat().st_size > 5_000
    brats.start("train.yaml", "evaluate.yaml", root=tmp_path, **given)
    assert {row["case"] for row in read_scores(tmp_path / "eval")} == {"a", "b"}
    network: dict[str, Any] = {key: value for key, value in brats.NETWORK.items() if key != "roi"}
    brats.start("inference.yaml", root=tmp_path, datalist=path, output_dir=str(tmp_path / "p"), save_masks=True, **network)
    files = [*(tmp_path / "eval" / "scored").rglob("*.nii.gz"), *(tmp_path / "p").rglob("*.nii.gz")]
    assert len(files) == 2 + 3 + 3
    for file in files:
        assert load_nifti(file).shape == (*shape, 2)
        np.testing.assert_allclose(load_nifti(file).affine, AFFINE, atol=1e-5)
