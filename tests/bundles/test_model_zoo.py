"""What MONAI's model zoo asks of a bundle (its CONTRIBUTING.md), and MONAI's own check of properties, for every shipped bundle."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow

from monai_jdt.data import write_brats_phantoms, write_qubiq_phantoms
from tests.bundles import test_brats_bundle as brats
from tests.bundles import test_lidc_bundle as lidc
from tests.bundles import test_qubiq_bundle as qubiq
from tests.bundles.lidc_set import write_lidc_set
from tests.bundles.test_verification import every_bundle, metadata, parsed

# MONAI says so of every schema that is not named with its hash
pytestmark = pytest.mark.filterwarnings("ignore:No hash value")

#: A single file of the zoo is no larger, in bytes.
LARGEST = 25 * 2**20
OF_INFERENCE = ["bundle_root", "device", "network_def", "inferer", "output_dir", "preprocessing", "postprocessing"]
OF_TRAINING = [
    *("bundle_root", "device", "dataset_dir", "output_dir", "val_interval"),
    *("train#trainer", "train#trainer#max_epochs", "train#dataset", "train#dataset#data", "train#handlers"),
    *("train#preprocessing", "train#postprocessing", "train#inferer"),
    *("validate#evaluator", "validate#handlers", "validate#dataset", "validate#dataset#data"),
    *("validate#preprocessing", "validate#postprocessing", "validate#inferer", "validate#key_metric"),
]


@every_bundle
def test_the_keys_of_the_model_zoo_are_there(bundle: Path) -> None:
    assert [key for key in OF_INFERENCE if key not in parsed(bundle, "inference")] == []
    assert [key for key in OF_TRAINING if key not in parsed(bundle, "train")] == []


@every_bundle
def test_files_are_small_and_name_no_folder_of_a_person(bundle: Path) -> None:
    files = [
        file for file in bundle.rglob("*") if file.is_file() and file.relative_to(bundle).parts[0] in ("LICENSE", "configs", "docs")
    ]
    assert len(files) > 10
    assert [file for file in files if file.stat().st_size > LARGEST] == []
    for file in files:
        assert not re.search(r"/(home|root|Users)/\w", file.read_text("utf-8")), file


@every_bundle
def test_the_name_says_task_and_data(bundle: Path) -> None:
    assert re.fullmatch(r"[a-z0-9]+(_[a-z0-9]+)+", bundle.name)
    assert bundle.name.endswith("_segmentation")
    assert metadata(bundle)["version"] in metadata(bundle)["changelog"]


#: A bundle's tests, and what writes a small set for it.
SETS: dict[str, tuple[ModuleType, Callable[[Path], str]]] = {
    "brats": (brats, lambda folder: write_brats_phantoms(folder, cases=3, shape=(16, 16, 16), progress=False)),
    "qubiq": (qubiq, lambda folder: write_qubiq_phantoms(folder, datasets="prostate", cases=3, shape=(16, 20), progress=False)),
    "lidc": (lidc, write_lidc_set),
}


@pytest.mark.long
@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("kind", ["train", "inference"])
def test_monais_check_of_properties_finds_nothing_wrong(name: str, kind: str, tmp_path: Path) -> None:
    """MONAI builds each property that it requires, and looks whether the engines refer to it."""
    module, write = SETS[name]
    settings = {**module.TINY, "dataset_dir": write(tmp_path / "set")}
    if kind == "inference":
        settings = {key: settings[key] for key in settings if key in ("roi", "size", "dataset_dir") or key.startswith("network_def")}
        parser = ConfigParser(ConfigParser.load_config_files(module.configs("inference.yaml")))
        parser.update(settings)
        (tmp_path / "root" / "models").mkdir(parents=True)
        torch.save(parser.get_parsed_content("network_def").state_dict(), tmp_path / "root" / "models" / "model.pt")
    workflow = ConfigWorkflow(
        config_file=module.configs(f"{kind}.yaml"),
        meta_file=module.configs("metadata.json")[0],
        logging_file=False,
        workflow_type=kind,
        bundle_root=str(tmp_path / "root"),
        **settings,
    )
    workflow.initialize()
    assert workflow.check_properties() == []
    # the check sees an engine that refers to something else
    if kind == "inference":
        workflow.parser["evaluator#postprocessing"] = "@preprocessing"
        assert workflow.check_properties() == ["postprocessing"]
    else:
        workflow.parser["train#trainer#postprocessing"] = "@train#preprocessing"
        assert workflow.check_properties() == ["train_postprocessing"]
