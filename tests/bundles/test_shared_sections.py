"""What the bundles have in common stands in each of them, since a bundle must run alone. These tests hold the copies equal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from monai_jdt.data import QUBIQ_SETS

BUNDLES = Path(__file__).resolve().parents[2] / "bundles"

#: What differs between the bundles, with the reason; everything else that both have must be equal.
OWN = {
    "train": (
        # the data: files for each channel or one; regions that overlap or not
        *("imports", "data_dir", "phantoms", "cases_found", "channels", "normalize", "regions", "label_values", "check_data", "split"),
        # the network's input: crops of volumes, or whole images that are resized
        *("spatial_dims", "read_case", "votes_to_label", "train#augmentations"),
        *("train#deterministic_transforms", "train#random_transforms"),
        *("validate#preprocessing", "validate#inferer", "validate#postprocessing", "validate#figure", "figure_channel"),
        # what is trained and scored
        *("network_def", "loss", "epochs", "val_interval", "batch_size", "learning_rate"),
        *("validate#key_metric", "validate#evaluator", "trained_settings", "initialize"),
    ),
    "inference": (
        *("imports", "spatial_dims", "data_dir", "phantoms", "cases_found", "channels", "out_channels", "normalize", "check_data"),
        *("preprocessing", "postprocessing", "inferer", "as_in_file", "save", "network_def"),
        *("given", "changed", "initialize", "run"),
        # what masks are called
        *("region_names", "mask_ending", "as_picture"),
    ),
    "evaluate": ("validate#handlers", "exclusive", "qubiq_dice", "initialize", "run"),
    "multi_gpu_train": ("initialize",),
    "votes": ("votes_to_label",),
}


#: What the LIDC bundle has otherwise than the QUBIQ bundle, which it is nearest to.
OWN_OF_LIDC = {
    "train": (
        *("data_dir", "phantoms", "cases_found", "channels", "normalize", "window", "regions", "check_data", "split"),
        # crops of volumes that are resampled, and one activation or the other
        *("read_case", "votes_to_label", "train#deterministic_transforms", "train#random_transforms", "train#augmentations"),
        *("validate#preprocessing", "validate#inferer", "validate#postprocessing", "validate#figure", "figure_channel"),
        *("network_def", "loss", "epochs", "val_interval", "batch_size", "learning_rate", "trained_settings", "initialize"),
    ),
    "inference": (
        *("data_dir", "phantoms", "channels", "normalize", "window", "check_data"),
        *("preprocessing", "postprocessing", "inferer", "as_in_file", "save", "network_def", "given", "changed", "initialize"),
        # a CT may be a DICOM folder
        *("image_name", "found", "above", "folder_names", "prediction_name", "mask_ending", "region_names"),
    ),
    "evaluate": ("check_data", "exclusive", "initialize", "run"),
    "multi_gpu_train": ("initialize",),
    "votes": ("votes_to_label",),
}
#: What it shares with the BraTS bundle and not with the other, but for that bundle's choice of two dimensions.
AS_BRATS = {
    "train": ("learning_rate", "validate#inferer", "optimizer", "train#dataset", "validate#dataset"),
    "inference": ("inferer", "network_def", "mask_ending"),
}


def config(bundle: str, name: str) -> dict[str, Any]:
    content = yaml.safe_load((BUNDLES / f"{bundle}_multirater_segmentation" / "configs" / f"{name}.yaml").read_text())
    assert isinstance(content, dict)
    return content


def in_both(first: Mapping[str, Any], second: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any, Any]]:
    """The items that both have, those of a section one by one."""
    for key in first.keys() & second.keys():
        parts = first[key], second[key]
        if key in ("train", "validate") and not above:
            yield from in_both(*parts, f"{key}#")
        else:
            yield f"{above}{key}", *parts


@pytest.mark.parametrize("name", OWN)
def test_what_both_bundles_have_is_the_same(name: str) -> None:
    items = list(in_both(config("brats", name), config("qubiq", name)))
    different = {key for key, brats, qubiq in items if brats != qubiq}
    assert different == set(OWN[name])
    assert {key for key, *_ in items} - different  # there is something to compare


@pytest.mark.parametrize("name", OWN_OF_LIDC)
def test_the_lidc_bundle_shares_the_rest_with_the_qubiq_bundle(name: str) -> None:
    lidc = config("lidc", name)
    items = list(in_both(config("qubiq", name), lidc))
    different = {key for key, qubiq, own in items if qubiq != own}
    assert different == set(OWN_OF_LIDC[name])
    assert {key for key, *_ in items} - different
    with_brats = {key: (brats, own) for key, brats, own in in_both(config("brats", name), lidc)}
    for key in AS_BRATS.get(name, ()):
        brats, own = (without_dimensions(section) for section in with_brats[key])
        assert brats == own, key


def without_dimensions(section: Any) -> Any:
    keys = ("spatial_dims", "_target_" if "inferer" in str(section).lower() else "")
    return {key: value for key, value in section.items() if key not in keys} if isinstance(section, dict) else section


@pytest.mark.parametrize("bundle", ["brats", "qubiq", "lidc"])
def test_prediction_repeats_what_training_says(bundle: str) -> None:
    train, inference = config(bundle, "train"), config(bundle, "inference")
    for key in ("normalizations", "phantoms", "device", "amp", "network", "dataset_dir", "datalist_file"):
        assert train[key] == inference[key], key
    network = {key: value for key, value in train["network_def"].items() if key != "out_channels"}
    assert network == {key: value for key, value in inference["network_def"].items() if key != "out_channels"}
    for key in ("window", "percentiles"):  # without a file of the training
        assert inference[key] == f"$@trained.get('{key}', {train[key]})"


def test_the_names_of_the_sets_are_those_of_the_package() -> None:
    assert config("qubiq", "inference")["sets"] == list(QUBIQ_SETS)
