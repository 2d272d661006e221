"""The overlays of a training: each trains in each bundle, alone and with others, and those that contradict each other are refused."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import yaml
from monai.bundle import ConfigParser

from monai_jdt.data import write_brats_phantoms, write_qubiq_phantoms
from tests.bundles import test_brats_bundle as brats
from tests.bundles import test_lidc_bundle as lidc
from tests.bundles import test_qubiq_bundle as qubiq
from tests.bundles.lidc_set import write_lidc_set
from tests.bundles.test_settings import LISTED, refused

BUNDLES: dict[str, ModuleType] = {"brats": brats, "lidc": lidc, "qubiq": qubiq}

#: Files of each bundle that are no copies of the others', with the reason.
OWN = {
    "loss_soft_dice.yaml": "the activation is an argument, and a step of the QUBIQ bundle has whole images",
    "smoothing_boundary.yaml": "the activation, and each bundle makes its label by steps of its own",
}
#: Overlays that only bundles with a softmax have.
SOFTMAX_ONLY = ("loss_lovasz.yaml",)


def names_of(bundle: str) -> list[str]:
    return sorted(path.name for path in (BUNDLES[bundle].BUNDLE / "configs" / "overlays").iterdir())


def files(bundle: str, *names: str) -> list[str]:
    """The paths of `train.yaml` and overlays, which have no folder in their names; of other files of the bundle as they are."""
    folder = BUNDLES[bundle].BUNDLE / "configs"
    there = [folder / "overlays" / name if (folder / "overlays" / name).is_file() else folder / name for name in names]
    return [str(folder / "train.yaml"), *map(str, there)]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """The folder of a bundle's phantoms, made at the first use."""
    made: dict[str, str] = {}

    def folder(bundle: str) -> str:
        if bundle not in made:
            path = tmp_path_factory.mktemp(bundle) / "set"
            if bundle == "brats":
                made[bundle] = write_brats_phantoms(path, cases=4, shape=(16, 16, 16), progress=False)
            elif bundle == "lidc":
                made[bundle] = write_lidc_set(path)
            else:
                made[bundle] = write_qubiq_phantoms(path, datasets="prostate", cases=4, shape=(32, 32), progress=False)
        return made[bundle]

    return folder


def train(bundle: str, root: Path, data: str, *names: str, **given: Any) -> dict[str, torch.Tensor]:
    """Train two epochs on tiny phantoms. Return the weights."""
    module = BUNDLES[bundle]
    size = {"size": [32, 32]} if bundle == "qubiq" else {}
    settings = {**module.TINY, **size, "epochs": 2, "val_interval": 2, "batch_size": 2, **given}
    module.run(config_file=files(bundle, *names), bundle_root=str(root), dataset_dir=data, logging_file=False, **settings)
    return torch.load(root / "models" / "model.pt", weights_only=True)


ALL = [(bundle, name) for bundle in BUNDLES for name in names_of(bundle)]
#: In the short tier: each overlay in one bundle, and each bundle with some.
SHORT = {
    *[("brats", "smoothing_boundary.yaml"), ("lidc", "smoothing_boundary.yaml"), ("qubiq", "loss_lovasz.yaml")],
    *[("brats", "loss_soft_dice.yaml"), ("lidc", "average_class.yaml"), ("qubiq", "loss_dml.yaml"), ("brats", "loss_ce.yaml")],
}


@pytest.mark.parametrize(("bundle", "name"), [pytest.param(*one, marks=() if one in SHORT else pytest.mark.long) for one in ALL])
def test_an_overlay_trains(bundle: str, name: str, tmp_path: Path, data: Callable[[str], str]) -> None:
    weights = train(bundle, tmp_path, data(bundle), name)
    assert all(value.isfinite().all() for value in weights.values())
    assert (tmp_path / "eval" / "case.png").is_file()


#: Several at once: a loss, an average, a smoothing, votes.
TOGETHER = [
    ("brats", ("votes.yaml", "loss_dml.yaml", "smoothing_uniform.yaml")),
    ("qubiq", ("loss_soft_dice.yaml", "smoothing_boundary.yaml")),
    pytest.param("lidc", ("loss_ctl.yaml", "average_image.yaml", "smoothing_boundary.yaml"), marks=pytest.mark.long),
    pytest.param("lidc", ("votes.yaml", "average_dataset.yaml", "loss_jml.yaml"), marks=pytest.mark.long),
    pytest.param("qubiq", ("votes.yaml", "loss_ce.yaml", "smoothing_uniform.yaml"), marks=pytest.mark.long),
    pytest.param("brats", ("average_class.yaml", "smoothing_boundary.yaml", "loss_dml.yaml"), marks=pytest.mark.long),
]


@pytest.mark.parametrize(("bundle", "names"), TOGETHER)
def test_overlays_train_together(bundle: str, names: tuple[str, ...], tmp_path: Path, data: Callable[[str], str]) -> None:
    weights = train(bundle, tmp_path, data(bundle), *names)
    assert all(value.isfinite().all() for value in weights.values())


#: What an overlay changes in the loss.
LOSS = {
    "loss_jml.yaml": {"alpha": 1.0, "beta": 1.0, "lambda_jdt": 0.75, "lambda_ce": 0.25},
    "loss_dml.yaml": {"alpha": 0.5, "beta": 0.5, "lambda_jdt": 0.75, "lambda_ce": 0.25},
    "loss_ctl.yaml": {"alpha": 0.3, "beta": 0.7, "lambda_jdt": 0.75, "lambda_ce": 0.25},
    "loss_ce.yaml": {"lambda_jdt": 0.0, "lambda_ce": 1.0},
}


@pytest.mark.parametrize("bundle", BUNDLES)
def test_the_last_of_two_losses_wins(bundle: str) -> None:
    for first in LOSS:
        for last, arguments in LOSS.items():
            loss = ConfigParser.load_config_files(files(bundle, first, last))["loss"]
            assert {key: loss[key] for key in arguments} == arguments
            assert loss["_target_"] == "monai_jdt.losses.JDTCELoss"


def test_the_default_loss_is_that_of_loss_jml() -> None:
    for bundle in BUNDLES:
        parser = ConfigParser(ConfigParser.load_config_files(files(bundle)))
        default = parser.get_parsed_content("loss")
        parser.read_config(files(bundle, "loss_jml.yaml"))
        assert repr(default) == repr(parser.get_parsed_content("loss"))


@pytest.mark.parametrize("name", sorted({name for bundle in BUNDLES for name in names_of(bundle)}))
def test_an_overlay_is_the_same_in_every_bundle(name: str) -> None:
    having = [bundle for bundle in BUNDLES if name in names_of(bundle)]
    assert having == [bundle for bundle in BUNDLES if bundle != "brats" or name not in SOFTMAX_ONLY]
    texts = {(BUNDLES[bundle].BUNDLE / "configs" / "overlays" / name).read_text() for bundle in having}
    assert (len(texts) > 1) == (name in OWN)
    for text in texts:
        assert f"configs/overlays/{name}'" in text.partition("\n\n")[0]
        assert len(yaml.safe_load(text)) <= 16


def test_boundary_smoothing_reaches_the_label(tmp_path: Path, data: Callable[[str], str]) -> None:
    """e = 1 replaces every label near a border by 1/2 (sigmoid) or 1/C (softmax), all of them if the border is near everywhere."""
    for bundle in BUNDLES:
        given = {"bundle_root": str(tmp_path), "dataset_dir": data(bundle), "border_smoothing": 1, "border_width": 24}
        parser = ConfigParser(ConfigParser.load_config_files(files(bundle, "smoothing_boundary.yaml")))
        parser.update(pairs=given | {key: value for key, value in BUNDLES[bundle].TINY.items() if "#" not in key})
        items = parser.get_parsed_content("train#dataset")[0]
        label = (items[0] if isinstance(items, list) else items)["label"]
        assert bool((label == 0.5).all()), bundle


#: Overlays in their order with settings, and the line that refuses them. None: in every bundle.
REFUSED: list[tuple[str | None, tuple[str, ...], dict[str, Any], str]] = [
    (None, ("votes.yaml", "smoothing_boundary.yaml"), {}, "border_smoothing: expected soft labels"),
    (None, ("smoothing_boundary.yaml", "votes.yaml"), {}, "votes_to_label: expected what smoothing_boundary.yaml gives it, got"),
    (None, ("smoothing_uniform.yaml", "smoothing_boundary.yaml"), {}, "border_smoothing: expected one kind of label smoothing"),
    (None, ("votes.yaml",), {"label_source": "majority"}, "label_source: expected one of average, random_rater, got 'majority'"),
    (None, ("loss_ce.yaml", "average_class.yaml"), {}, "loss#average: expected null, since the loss is cross-entropy alone"),
    (None, ("average_image.yaml", "loss_soft_dice.yaml"), {}, "loss#average: expected what average_image.yaml gives it, got loss of"),
    (None, ("loss_soft_dice.yaml", "average_image.yaml"), {}, "loss#average: expected an argument of DiceLoss, got an unknown one"),
    (None, ("votes.yaml", "loss_soft_dice.yaml"), {}, "loss#votes: expected what votes.yaml gives it, got loss of loss_soft_dice"),
    (None, ("loss_soft_dice.yaml", "loss_dml.yaml"), {}, "loss#alpha: expected an argument of DiceLoss, got an unknown one"),
    (
        None,
        (),
        {"border_width": 2},
        "--border_width: expected a key that the run reads, got an unknown one. Fix: lay configs/overlays/",
    ),
    (None, ("smoothing_boundary.yaml",), {"border_smoothing": 2}, "border_smoothing: expected a number from 0 to 1, got 2"),
    (None, ("average_class.yaml",), {"loss#batch": True}, "loss"),
    ("qubiq", ("loss_lovasz.yaml",), {"label_source": "average"}, "label_source: expected majority or random_rater, since the Lov"),
    ("lidc", ("loss_lovasz.yaml",), {"activation": "sigmoid"}, "activation: expected softmax, since the Lovász loss has one"),
    ("lidc", ("loss_lovasz.yaml", "smoothing_boundary.yaml"), {}, "border_smoothing: expected no smoothing, since the Lovász"),
    ("lidc", ("loss_lovasz.yaml", "votes.yaml"), {}, "loss#votes: expected an argument of LovaszSoftmaxLoss"),
    ("qubiq", ("votes.yaml", "loss_lovasz.yaml"), {}, "loss#votes: expected what votes.yaml gives it, got loss of loss_lovasz.yaml"),
    ("qubiq", ("loss_lovasz.yaml", "loss_soft_dice.yaml"), {}, "loss: expected one overlay that chooses its class, got LovaszSoftm"),
    ("qubiq", ("loss_lovasz.yaml", "smoothing_uniform.yaml"), {}, "loss#label_smoothing: expected an argument of Lovasz"),
]


@pytest.mark.parametrize(
    ("bundle", "names", "given", "line"),
    [
        pytest.param(bundle, *rest, id=f"{bundle}-{'+'.join(rest[0])}-{rest[1]}")
        for number, (only, *rest) in enumerate(REFUSED)
        for bundle in ([only] if only else [list(BUNDLES)[number % 3]])
    ],
)
def test_what_makes_no_sense_is_refused(
    bundle: str, names: tuple[str, ...], given: dict[str, Any], line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert refused(capsys, tmp_path, files(bundle, *names), **LISTED, **given).startswith(line)


def test_a_loss_without_sync_is_named_after_the_file_of_several_processes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "LOCAL_RANK"):
        monkeypatch.setitem(os.environ, name, "0")
    line = refused(capsys, tmp_path, files("qubiq", "loss_soft_dice.yaml", "multi_gpu_train.yaml"), **LISTED)
    assert line.startswith("loss#sync: expected an argument of DiceLoss")
    assert line.endswith("Fix: name the file of this loss after multi_gpu_train.yaml.")
