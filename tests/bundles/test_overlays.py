"""The overlays of a training: each trains in each bundle, alone and with others, and those that contradict each other are refused."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import yaml
from monai.bundle import ConfigParser

from monai_jdt import bundle_runtime
from monai_jdt.bundle_runtime.overlay_settings import OverlaySettings, overlay_of
from monai_jdt.data import qubiq_datalist, write_brats_phantoms, write_datalist, write_qubiq_phantoms
from tests.bundles import test_brats_bundle as brats
from tests.bundles import test_lidc_bundle as lidc
from tests.bundles import test_qubiq_bundle as qubiq
from tests.bundles.lidc_set import write_lidc_set
from tests.bundles.test_multi_gpu import SAME_STEPS
from tests.bundles.test_settings import LISTED, refused

ROOT = Path(__file__).resolve().parents[2]
BUNDLES: dict[str, ModuleType] = {"brats": brats, "lidc": lidc, "qubiq": qubiq}

#: Files of each bundle that are no copies of the others', with the reason.
OWN = {
    "loss_soft_dice.yaml": "the activation is an argument, and a step of the QUBIQ bundle has whole images",
    "distillation.yaml": "the activation",
    "mean_teacher.yaml": "the activation, and a step of the QUBIQ bundle has whole images",
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


def tiny(bundle: str) -> dict[str, Any]:
    """Settings of a small network, with two resolutions below that of the image, and of small images."""
    small = {"network_def#init_filters": 8, "network_def#blocks_down": [1, 1, 1], "network_def#blocks_up": [1, 1]}
    return {**BUNDLES[bundle].TINY, **small, **({"size": [32, 32]} if bundle == "qubiq" else {})}


def save_untrained(bundle: str, path: Path, *names: str, seed: int = 0, **given: Any) -> str:
    """Write the weights of a network of the bundle, as a training would."""
    parser = ConfigParser(ConfigParser.load_config_files(files(bundle, *names)))
    parser.update(pairs={**{key: value for key, value in tiny(bundle).items() if key.startswith("network_def")}, **given})
    torch.manual_seed(seed)
    torch.save(parser.get_parsed_content("network_def").state_dict(), path)
    return str(path)


def train(bundle: str, root: Path, data: str, *names: str, **given: Any) -> dict[str, torch.Tensor]:
    """Train two epochs on tiny phantoms. Return the weights."""
    module = BUNDLES[bundle]
    settings = {**tiny(bundle), "epochs": 2, "val_interval": 2, "batch_size": 2, **given}
    module.run(config_file=files(bundle, *names), bundle_root=str(root), dataset_dir=data, logging_file=False, **settings)
    return torch.load(root / "models" / "model.pt", weights_only=True)


ALL = [(bundle, name) for bundle in BUNDLES for name in names_of(bundle)]
#: In the short tier: each bundle with some. The others train there together, or are looked at without a training.
SHORT = {
    *[("qubiq", "mean_teacher.yaml"), ("brats", "distillation.yaml"), ("lidc", "deep_supervision.yaml")],
    *[("qubiq", "loss_lovasz.yaml"), ("lidc", "average_class.yaml"), ("brats", "loss_ce.yaml")],
}


@pytest.mark.parametrize(("bundle", "name"), [pytest.param(*one, marks=() if one in SHORT else pytest.mark.long) for one in ALL])
def test_an_overlay_trains(bundle: str, name: str, tmp_path: Path, data: Callable[[str], str]) -> None:
    needed = {"segresnet_ds.yaml": ("deep_supervision.yaml",), "deep_supervision.yaml": ("segresnet_ds.yaml",)}
    teachers = {"teachers": [save_untrained(bundle, tmp_path / "teacher.pt")]} if name == "distillation.yaml" else {}
    weights = train(bundle, tmp_path, data(bundle), name, *needed.get(name, ()), **teachers)
    assert all(value.isfinite().all() for value in weights.values())
    assert (tmp_path / "eval" / "case.png").is_file()


#: Several at once: a loss, an average, a smoothing, votes.
TOGETHER = [
    ("brats", ("votes.yaml", "loss_dml.yaml", "smoothing_uniform.yaml")),
    ("qubiq", ("loss_soft_dice.yaml", "smoothing_boundary.yaml")),
    ("lidc", ("votes.yaml", "loss_dml.yaml", "mean_teacher.yaml")),
    pytest.param("brats", ("mean_teacher.yaml", "smoothing_boundary.yaml", "loss_soft_dice.yaml"), marks=pytest.mark.long),
    pytest.param("qubiq", ("loss_lovasz.yaml", "mean_teacher.yaml"), marks=pytest.mark.long),
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
        assert len(yaml.safe_load(text)) <= 20


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
    ("brats", ("smoothing_boundary.yaml", "votes.yaml"), {}, "votes_to_label: expected what smoothing_boundary.yaml gives it, got"),
    ("lidc", ("smoothing_boundary.yaml", "votes.yaml"), {}, "border_smoothing: expected soft labels"),
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
    ("brats", ("average_class.yaml",), {"loss#batch": True}, "loss (monai_jdt.losses.JDTCELoss): expected arguments that it can be"),
    ("qubiq", ("loss_lovasz.yaml",), {"label_source": "average"}, "label_source: expected majority or random_rater, since the Lov"),
    ("lidc", ("loss_lovasz.yaml",), {"activation": "sigmoid"}, "activation: expected softmax, since the Lovász loss has one"),
    ("lidc", ("loss_lovasz.yaml", "smoothing_boundary.yaml"), {}, "border_smoothing: expected no smoothing, since the Lovász"),
    ("lidc", ("loss_lovasz.yaml", "votes.yaml"), {}, "loss#votes: expected an argument of LovaszSoftmaxLoss"),
    ("qubiq", ("votes.yaml", "loss_lovasz.yaml"), {}, "loss#votes: expected what votes.yaml gives it, got loss of loss_lovasz.yaml"),
    ("qubiq", ("loss_lovasz.yaml", "loss_soft_dice.yaml"), {}, "loss: expected one overlay that chooses its class, got LovaszSoftm"),
    ("qubiq", ("loss_lovasz.yaml", "smoothing_uniform.yaml"), {}, "loss#label_smoothing: expected an argument of Lovasz"),
    (None, ("distillation.yaml",), {}, "teachers: expected at least one checkpoint, got none. Fix: train one by the same config"),
    (None, ("distillation.yaml",), {"teachers": "no.pt"}, "teachers no.pt: expected a checkpoint, got no file at that path"),
    (None, ("distillation.yaml",), {"teacher_temperature": 0}, "teacher_temperature: expected a number > 0, got 0"),
    (None, ("distillation.yaml",), {"label_weight": 0, "teacher_weight": 0, "teachers": [__file__]}, "label_weight, teacher_weight: "),
    (None, ("distillation.yaml",), {"teachers": [__file__]}, f"teacher: {__file__}: expected a file that torch.load reads"),
    (
        None,
        (),
        {"teachers": [__file__]},
        "--teachers: expected a key that the run reads, got an unknown one. Fix: lay configs/overlays",
    ),
    (None, ("distillation.yaml", "deep_supervision.yaml"), {}, "train#trainer#loss_function: expected one overlay that chooses its"),
    (None, ("deep_supervision.yaml", "distillation.yaml"), {}, "train#trainer#loss_function: expected one overlay that chooses its"),
    (None, ("distillation.yaml", "loss_soft_dice.yaml"), {}, "loss: expected one overlay that chooses its class, got DistillationLos"),
    ("qubiq", ("loss_lovasz.yaml", "distillation.yaml"), {}, "loss: expected one overlay that chooses its class, got LovaszSoftmaxLo"),
    (
        None,
        ("deep_supervision.yaml",),
        {},
        "network_def: expected a network that predicts at several resolutions, since the loss is th",
    ),
    (None, ("segresnet_ds.yaml",), {}, "network_def: expected a network of one output, since the loss takes one, got 3 of SegResNetDS"),
    (None, ("distillation.yaml", "mean_teacher.yaml"), {}, "train#trainer#loss_function: expected one overlay that chooses its class"),
    (None, ("mean_teacher.yaml", "deep_supervision.yaml"), {}, "train#trainer#loss_function: expected one overlay that chooses its"),
    (None, ("mean_teacher.yaml",), {"ema_decay": None}, "ema_decay: expected the decay of the mean teacher, got null"),
    (None, ("mean_teacher.yaml",), {"labelled_fraction": 1}, "labelled_fraction: expected a number below 1 without a data list"),
    (None, ("mean_teacher.yaml",), {"validated": "both"}, "validated: expected one of teacher, student, got 'both'"),
    ("brats", ("mean_teacher.yaml",), {"confidence": 0.3}, "confidence: expected a number from 0.5 to 1 with a sigmoid, or null, got"),
    ("lidc", ("segresnet_ds.yaml", "deep_supervision.yaml", "loss_lovasz.yaml"), {}, "train#trainer#loss_function (monai_jdt.losses.S"),
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
    folds = {"folds": 2} if bundle == "qubiq" else {}
    assert refused(capsys, tmp_path, files(bundle, *names), **LISTED, **folds, **given).startswith(line)


def test_a_loss_without_sync_is_named_after_the_file_of_several_processes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "LOCAL_RANK"):
        monkeypatch.setitem(os.environ, name, "0")
    line = refused(capsys, tmp_path, files("qubiq", "loss_soft_dice.yaml", "multi_gpu_train.yaml"), **LISTED)
    assert line.startswith("loss#sync: expected an argument of DiceLoss")
    assert line.endswith("Fix: name the file of this loss after multi_gpu_train.yaml.")


@pytest.mark.parametrize("bundle", BUNDLES)
def test_what_is_learnt_from_the_mean_teacher_is_summed_over_processes_as_the_loss_is(bundle: str) -> None:
    """`--sync false` is given once, for both, whatever the order of the files."""
    for names in [("mean_teacher.yaml",), *itertools.permutations(("mean_teacher.yaml", "multi_gpu_train.yaml"))]:
        for given in ({}, {"sync": False}, {"sync": True}) if len(names) == 2 else ({},):
            parser = ConfigParser(ConfigParser.load_config_files(files(bundle, *names)))
            parser.update(pairs=given)
            loss, consistency = (parser.get_parsed_content(name).recipe.averaging.sync for name in ("loss", "consistency"))
            assert loss == consistency == (len(names) == 2 and given.get("sync", True)), (names, given)


def test_a_student_learns_from_several_teachers(tmp_path: Path, data: Callable[[str], str]) -> None:
    """Their number, temperature and weights reach the loss; with no weight the student learns as if it had none."""
    teachers = [save_untrained("qubiq", tmp_path / f"{seed}.pt", seed=seed) for seed in (1, 2)]

    def weights(name: str, *names: str, **given: Any) -> torch.Tensor:
        (tmp_path / name).mkdir()
        found = train("qubiq", tmp_path / name, data("qubiq"), *names, **given)
        return torch.cat([value.flatten().double() for value in found.values()])

    plain = weights("plain", "loss_dml.yaml")
    alone = weights("alone", "loss_dml.yaml", "distillation.yaml", teachers=teachers[:1], label_weight=1, teacher_weight=0)
    assert torch.allclose(alone, plain, rtol=0, atol=1e-5)
    one = weights("one", "loss_dml.yaml", "distillation.yaml", teachers=teachers[:1])
    two = weights("two", "loss_dml.yaml", "distillation.yaml", teachers=teachers)
    warm = weights("warm", "loss_dml.yaml", "distillation.yaml", teachers=teachers, teacher_temperature=4)
    for first, second in [(plain, one), (one, two), (two, warm)]:
        assert (first - second).abs().max() > 1e-3
    # an evaluation needs no teacher, whose file may be gone
    names = files("qubiq", "loss_dml.yaml", "distillation.yaml", "evaluate.yaml")
    given = {**tiny("qubiq"), "logging_file": False}
    qubiq.run(config_file=names, bundle_root=str(tmp_path / "one"), dataset_dir=data("qubiq"), **given)
    assert (tmp_path / "one" / "eval" / "evaluation.csv").is_file()


def test_no_key_of_an_overlay_is_one_of_a_run() -> None:
    """The run's declaration would win, and one key would mean two things."""
    for settings in (bundle_runtime.BratsEvaluation, bundle_runtime.LidcEvaluation, bundle_runtime.QubiqEvaluation):
        for part in settings.__mro__:
            if part is not OverlaySettings:
                assert not OverlaySettings.model_fields.keys() & vars(part).get("__annotations__", {}).keys(), part


def test_a_teacher_of_another_network(tmp_path: Path, data: Callable[[str], str], capsys: pytest.CaptureFixture[str]) -> None:
    larger = {"network_def#init_filters": 16}
    teacher = save_untrained("qubiq", tmp_path / "teacher.pt", **larger)
    network = ConfigParser.load_config_files(files("qubiq"))["network_def"]
    network |= {key.partition("#")[2]: value for key, value in {**tiny("qubiq"), **larger}.items() if key.startswith("network_def")}
    overlay = tmp_path / "mine.yaml"
    overlay.write_text(yaml.safe_dump({"teacher_network_def": network}))
    small = {"network_def#init_filters": 8}
    weights = train("qubiq", tmp_path, data("qubiq"), "distillation.yaml", str(overlay), teachers=[teacher], **small)
    assert weights["convInit.conv.weight"].shape[0] == 8
    line = refused(capsys, tmp_path, files("qubiq", "distillation.yaml"), **{**tiny("qubiq"), **small, **LISTED}, teachers=[teacher])
    assert line.startswith(f"teacher: {teacher}: expected the weights of SegResNet, got others")


def test_a_network_with_heads_predicts_with_the_finest(tmp_path: Path, data: Callable[[str], str]) -> None:
    train("brats", tmp_path, data("brats"), "votes.yaml", "segresnet_ds.yaml", "deep_supervision.yaml")
    folder = brats.BUNDLE / "configs"
    names = [str(folder / "inference.yaml"), str(folder / "overlays" / "segresnet_ds.yaml")]
    given = {key: value for key, value in tiny("brats").items() if key.startswith("network_def")}
    brats.run(config_file=names, bundle_root=str(tmp_path), dataset_dir=data("brats"), **{"logging_file": False, **given})
    assert len(list((tmp_path / "eval" / "predictions").rglob("*.nii.gz"))) == 4


def pairs_of(bundle: str, root: Path, *names: str, **given: Any) -> tuple[Any, ConfigParser]:
    """The training's data set under `mean_teacher.yaml`, and the config."""
    parser = ConfigParser(ConfigParser.load_config_files(files(bundle, "mean_teacher.yaml", *names)))
    tiny_crops = {key: value for key, value in tiny(bundle).items() if "#" not in key}
    parser.update(pairs={"bundle_root": str(root), "fold": None, **tiny_crops, **given})
    return parser.get_parsed_content("train#dataset"), parser


@pytest.mark.parametrize("bundle", BUNDLES)
def test_a_pair_has_a_case_with_a_label_and_one_without(bundle: str, tmp_path: Path, data: Callable[[str], str]) -> None:
    pairs, parser = pairs_of(bundle, tmp_path, dataset_dir=data(bundle))
    first = pairs[0]
    names = [{item["case"] for item in side} for side in parser.get_parsed_content("two_lists")]
    assert not names[0] & names[1]
    assert {item["case"] for item in first if item["labelled"]} <= names[0]
    assert {item["case"] for item in first if not item["labelled"]} <= names[1]
    drawn = [*first, *(item for _ in range(4) for item in pairs[0])]
    assert any(not torch.equal(item["teacher_image"], item["image"]) for item in drawn)
    for item in drawn:
        # in one place, and of other intensities
        assert item["teacher_image"].shape == item["image"].shape
        both = torch.stack([torch.as_tensor(item[key]).flatten() for key in ("teacher_image", "image")])
        assert torch.corrcoef(both)[0, 1] > 0.5
        assert item["labelled"] or not item["label"].any()


def test_a_data_list_brings_cases_without_a_label(tmp_path: Path, data: Callable[[str], str]) -> None:
    """Their items have an image alone. All other cases of the training keep their labels."""
    items = qubiq_datalist(data("qubiq"), "prostate", 1)
    content = {"training": items[:2], "validation": items[2:3], "unlabelled": [{"case": "new", "image": items[3]["image"]}]}
    path = write_datalist(content, tmp_path / "list.json")
    pairs, parser = pairs_of("qubiq", tmp_path, datalist_file=path)
    labelled, unlabelled = parser.get_parsed_content("two_lists")
    assert [item["case"] for item in labelled] == [item["case"] for item in items[:2]]
    assert [item["case"] for item in unlabelled] == ["new"]
    assert len(pairs) == 2
    (tmp_path / "run").mkdir()
    module_data = {"datalist": path, "dataset_dir": None}
    qubiq.run(
        config_file=files("qubiq", "mean_teacher.yaml"),
        bundle_root=str(tmp_path / "run"),
        **{**tiny("qubiq"), **module_data, "logging_file": False, "batch_size": 2},
    )
    assert (tmp_path / "run" / "models" / "model.pt").is_file()


def test_the_teacher_or_the_student_is_saved_and_evaluated(tmp_path: Path, data: Callable[[str], str]) -> None:
    found, scores = {}, {}
    for name in ("teacher", "student"):
        (tmp_path / name).mkdir()
        found[name] = train("qubiq", tmp_path / name, data("qubiq"), "mean_teacher.yaml", validated=name)
        # an evaluation may be laid over the same files as the training
        for names in ([], ["mean_teacher.yaml"]) if name == "teacher" else ():
            given = {**tiny("qubiq"), "bundle_root": str(tmp_path / name), "dataset_dir": data("qubiq"), "logging_file": False}
            qubiq.run(config_file=files("qubiq", *names, "evaluate.yaml"), **given)
            scores[name, bool(names)] = (tmp_path / name / "eval" / "metrics.csv").read_text()
    assert found["teacher"].keys() == found["student"].keys()
    assert any(not torch.equal(found["teacher"][key], found["student"][key]) for key in found["teacher"])
    assert scores["teacher", True] == scores["teacher", False]


@pytest.mark.long
@pytest.mark.parametrize("name", ["distillation.yaml", "mean_teacher.yaml"])
def test_two_processes_learn_from_a_teacher_as_one(name: str, tmp_path: Path) -> None:
    """Nothing drawn, the cases in their order: the losses of one process with twice the batch."""
    data = write_qubiq_phantoms(tmp_path / "set", datasets="prostate", cases=8, shape=(32, 32), progress=False)
    overlay = tmp_path / "steps.yaml"
    copied = "[{_target_: monai.transforms.CopyItemsd, keys: image, names: teacher_image}]"
    overlay.write_text(f"{SAME_STEPS}train#augmentations: {copied if 'mean' in name else []}\ntrain#sampler#shuffle: false\n")
    given: dict[str, Any] = {"folds": 2, "epochs": 2, "val_interval": 2, "dataset_dir": data}
    if "distillation" in name:
        # other weights than the student's at first: equal predictions are ties, where the last bit decides about the slope
        given["teachers"] = [save_untrained("qubiq", tmp_path / "teacher.pt", seed=1)]
    losses = {}
    for processes in (1, 2):
        root = tmp_path / str(processes)
        root.mkdir()
        several = ["multi_gpu_train.yaml"] if processes == 2 else []
        options = {**tiny("qubiq"), **given, "bundle_root": str(root), "batch_size": 2 // processes}
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
        command = [*(command if several else [sys.executable]), "-m", "monai.bundle", "run"]
        command += ["--config_file", str(files("qubiq", *several, name, str(overlay)))]
        command += [text for key, value in options.items() for text in (f"--{key}", str(value))]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "GLOO_SOCKET_IFNAME": "lo"}
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, env=environment, cwd=root)
        assert done.returncode == 0, done.stderr[-3000:]
        losses[processes] = [[float(word) for word in path.read_text().split()] for path in sorted(root.glob("losses*"))]
    assert len(losses[2]) == 2
    assert len(losses[1][0]) >= 2
    for of_rank in losses[2]:
        assert of_rank == pytest.approx(losses[1][0], abs=1e-5)


@pytest.mark.parametrize("bundle", BUNDLES)
def test_a_key_of_an_overlay_has_no_other_meaning_in_the_bundle(bundle: str) -> None:
    """As `temperature` had, by which an evaluation divides logits."""
    folder = BUNDLES[bundle].BUNDLE / "configs"
    keys = {key for name in ("train.yaml", "evaluate.yaml", "inference.yaml") for key in yaml.safe_load((folder / name).read_text())}
    assert keys.isdisjoint(OverlaySettings.model_fields)


def test_the_table_of_the_docs_has_every_overlay_and_key() -> None:
    table = [line for line in (ROOT / "docs" / "recipes.md").read_text().splitlines() if line.startswith("| `")]
    named = {line.split("`")[1] for line in table}
    assert {name for bundle in BUNDLES for name in names_of(bundle)} <= named
    for key, entry in OverlaySettings.model_fields.items():
        (row,) = [line for line in table if line.startswith(f"| `{overlay_of(entry)}`")]
        assert f"`{key}`" in row
