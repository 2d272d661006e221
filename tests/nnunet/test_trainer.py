"""The trainer against nnU-Net's own: what is the same, and what must not be."""

from __future__ import annotations

import json
import pickle
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from monai_jdt.nnunet import ext_trainer
from monai_jdt.nnunet.raw_dataset import MISSING
from tests.nnunet.tiny_data import NAME, NESTED, ONE_REGION, planned, tiny_plans

pytest.importorskip("nnunetv2")

from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.find_class_by_name import recursive_find_python_class

from monai_jdt.nnunet.preprocessing import preprocess_raters
from monai_jdt.nnunet.trainer import nnUNetTrainerJDT

pytestmark = pytest.mark.usefixtures("in_threads")

CPU = torch.device("cpu")
CLASSES = {"rim": (1,), "core": (2,)}


class ShortTrainer(nnUNetTrainerJDT):
    """One epoch of two steps. The arguments are nnU-Net's, which reads them by name."""

    deep = True

    def __init__(self, plans: dict, configuration: str, fold: int, dataset_json: dict, device: torch.device = CPU) -> None:
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs = 1
        self.num_iterations_per_epoch, self.num_val_iterations_per_epoch = 2, 1
        self.enable_deep_supervision = self.deep


class FlatTrainer(ShortTrainer):
    deep = False


def trainer_of(
    folder: Path, kind: type[nnUNetTrainer] = ShortTrainer, configuration: str = "3d_fullres", plans: str = "nnUNetPlansRaters"
) -> Any:
    place = folder / "preprocessed" / NAME
    read = json.loads((place / f"{plans}.json").read_text()) | {"continue_training": False}
    return kind(read, configuration, 0, json.loads((place / "dataset.json").read_text()), CPU)


@pytest.fixture
def ready(nnunet_folders: Path) -> Callable[..., Path]:
    """A function that converts, plans and preprocesses, with the arguments of `planned`."""

    def prepare(
        regions: Mapping[str, Sequence[int]] = ONE_REGION, configurations: Sequence[str] = ("3d_fullres",), **choices: Any
    ) -> Path:
        planned(nnunet_folders, regions, **{"cases": 2, **choices})
        preprocess_raters(NAME, configurations, processes=1)
        return nnunet_folders

    return prepare


@pytest.mark.parametrize("kind", [ShortTrainer, FlatTrainer], ids=["deep", "flat"])
@pytest.mark.parametrize("regions", [CLASSES, NESTED], ids=["classes", "regions"])
def test_an_epoch_runs_and_its_checkpoint_is_nnunets(
    ready: Callable[..., Path], kind: type[nnUNetTrainerJDT], regions: dict[str, Any]
) -> None:
    folder = ready(regions, missing={0: [1]})
    trainer = trainer_of(folder, kind)
    trainer.run_training()
    assert np.isfinite(trainer.logger.get_value("train_losses", step=-1))
    assert len(trainer.logger.get_value("dice_per_class_or_region", step=-1)) == 2
    checkpoint = torch.load(Path(trainer.output_folder) / "checkpoint_final.pth", weights_only=False)
    assert checkpoint["trainer_name"] == "nnUNetTrainer"  # prediction looks for it, and needs nothing of this package
    again = trainer_of(folder, kind)
    again.load_checkpoint(str(Path(trainer.output_folder) / "checkpoint_final.pth"))
    assert again.current_epoch == 1
    for key, value in trainer.network.state_dict().items():
        torch.testing.assert_close(again.network.state_dict()[key], value)


def test_a_network_of_its_own_keeps_its_trainers_name(ready: Callable[..., Path]) -> None:
    class OwnNetwork(ShortTrainer):
        @staticmethod
        def build_network_architecture(
            plans_manager: Any, configuration_manager: Any, num_input_channels: int, num_output_channels: int, enable: bool = True
        ) -> torch.nn.Module:
            arguments = (plans_manager, configuration_manager, num_input_channels, num_output_channels, enable)
            return nnUNetTrainer.build_network_architecture(*arguments)

    trainer = trainer_of(ready(), OwnNetwork)
    trainer.initialize()
    trainer.save_checkpoint(str(Path(trainer.output_folder) / "x.pth"))
    assert torch.load(Path(trainer.output_folder) / "x.pth", weights_only=False)["trainer_name"] == "OwnNetwork"
    trainer.disable_checkpointing = True
    trainer.save_checkpoint(str(Path(trainer.output_folder) / "y.pth"))
    assert not (Path(trainer.output_folder) / "y.pth").exists()


@pytest.mark.parametrize("batch_dice", [False, True])
@pytest.mark.parametrize("regions", [CLASSES, NESTED], ids=["classes", "regions"])
def test_ten_steps_on_hard_labels_have_nnunets_losses(
    nnunet_folders: Path, monkeypatch: pytest.MonkeyPatch, regions: dict[str, Any], batch_dice: bool
) -> None:
    """One rater, and so the fused label is that rater's. nnU-Net's loss is 1 smaller: it has -Dice for 1 - Dice."""
    planned(nnunet_folders, regions, cases=2, missing={0: [1, 2], 1: [1, 2]}, plans=tiny_plans(batch_dice=batch_dice))
    preprocess_raters(NAME, ["3d_fullres"], processes=1)
    DefaultPreprocessor(verbose=False).run(NAME, "3d_fullres", "nnUNetPlans", 1)

    class Stock(nnUNetTrainer):
        def __init__(self, plans: dict, configuration: str, fold: int, dataset_json: dict, device: torch.device = CPU) -> None:
            super().__init__(plans, configuration, fold, dataset_json, device)
            self.enable_deep_supervision = False

    courses = []
    for kind, plans in ((Stock, "nnUNetPlans"), (FlatTrainer, "nnUNetPlansRaters")):
        torch.manual_seed(0)
        trainer = trainer_of(nnunet_folders, kind, plans=plans)
        trainer.initialize()
        np.random.seed(0)  # of nnU-Net's patches and augmentation
        trainer.dataloader_train, _ = trainer.get_dataloaders()
        trainer.network.train()
        np.random.seed(1)
        torch.manual_seed(1)
        courses.append([float(trainer.train_step(next(trainer.dataloader_train))["loss"]) for _ in range(10)])
    stock, ours = np.array(courses)
    np.testing.assert_allclose(ours, stock + 1, rtol=1e-4)
    assert ours[-1] < ours[0]


def batch_of(trainer: Any, training: bool = True) -> dict[str, Any]:
    trainer.dataloader_train, trainer.dataloader_val = trainer.get_dataloaders()
    return next(trainer.dataloader_train if training else trainer.dataloader_val)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("regions", [CLASSES, NESTED], ids=["classes", "regions"])
def test_the_target_keeps_every_rater(ready: Callable[..., Path], regions: dict[str, Any], training: bool) -> None:
    """nnU-Net makes regions of channel 0 alone, and -1 of a missing rater background."""
    folder = ready(regions, missing={0: [1], 1: [1]})
    trainer = trainer_of(folder)
    trainer.initialize()
    target = batch_of(trainer, training)["target"]
    assert isinstance(target, torch.Tensor)
    assert target.shape[1] == 3  # the fused label, raters r0 and r2: nobody has r1
    assert set(target.unique().tolist()) <= {0, 1, 2}


def test_a_missing_rater_stays_so_in_the_target(ready: Callable[..., Path]) -> None:
    trainer = trainer_of(ready(missing={0: [0], 1: [0, 2]}))
    trainer.initialize()
    trainer.dataloader_train, _ = trainer.get_dataloaders()
    for _ in range(3):
        batch = next(trainer.dataloader_train)
        for case, target in zip(batch["keys"], batch["target"], strict=True):
            assert bool((target[2] == MISSING).any()) is (case == "c1")


@pytest.mark.parametrize("training", [True, False])
def test_a_cascade_sees_the_previous_stage_and_no_rater(ready: Callable[..., Path], training: bool) -> None:
    """nnU-Net takes channel 1 for the previous stage, which is a rater's here, and would leave the stage among the labels."""
    folder = ready(CLASSES, configurations=("3d_fullres", "3d_lowres"))
    trainer = trainer_of(folder, configuration="3d_cascade_fullres")
    previous = Path(trainer.folder_with_segs_from_previous_stage)
    previous.mkdir(parents=True)
    lowres = trainer_of(folder)
    lowres.initialize()
    for case in ("c0", "c1"):
        data = lowres.dataset_class(lowres.preprocessed_dataset_folder, [case]).load_case(case)[0]
        # the previous stage marks everything as class 2, as no rater does
        lowres.dataset_class.save_seg(np.full(data.shape[1:], 2, np.uint8), str(previous / case))
    trainer.initialize()
    trainer.dataloader_train, trainer.dataloader_val = trainer.get_dataloaders()
    loader = trainer.dataloader_train if training else trainer.dataloader_val
    # of augmentation, only the transform of the cascade stays: others erase parts of the previous stage at random
    batch = next(loader)
    assert batch["target"].shape[1] == 4
    assert batch["data"].shape[1] == 3
    if not training:
        stage = batch["data"][:, 1:]
        assert not stage[:, 0].any()
        inside = batch["target"][:, 0] > 0
        assert stage[:, 1][inside].all()
    assert not (batch["target"][:, 1:] == 2).flatten(2).all(-1).any()
    assert np.isfinite(trainer.train_step(batch)["loss"])


def test_the_pseudo_dice_is_that_of_the_fused_label(ready: Callable[..., Path]) -> None:
    """nnU-Net's own would scatter all channels into one label, the union of the raters."""
    trainer = trainer_of(ready(CLASSES), FlatTrainer)
    trainer.initialize()
    fused = torch.zeros(1, 1, 8, 16, 16, dtype=torch.int16)
    fused[..., :4, :4, :4] = 1
    fused[..., 6:, 8:, 8:] = 2
    target = torch.cat([fused, torch.full_like(fused, 2).expand(-1, 3, -1, -1, -1)], 1)
    trainer.network = torch.nn.Conv3d(1, 3, 1)  # says class 1 where the image is 1, class 2 where it is 2
    with torch.no_grad():
        trainer.network.weight.copy_(torch.tensor([0.0, 2, 4]).reshape(3, 1, 1, 1, 1))
        trainer.network.bias.copy_(torch.tensor([1.0, 0, -3]))
    found = trainer.validation_step({"data": fused.float(), "target": target})
    np.testing.assert_array_equal(found["tp_hard"], [64, 128])
    np.testing.assert_array_equal(found["fp_hard"], [0, 0])
    np.testing.assert_array_equal(found["fn_hard"], [0, 0])


def test_the_pseudo_dice_of_regions_leaves_the_ignore_label_out(ready: Callable[..., Path]) -> None:
    trainer = trainer_of(ready({"whole": (1, 2), "core": (1,)}, ignored=5), FlatTrainer)
    trainer.initialize()
    assert trainer.label_manager.ignore_label == 3
    fused = torch.zeros(1, 1, 8, 16, 16, dtype=torch.int16)
    fused[..., 0, 0, :4] = torch.tensor([1, 2, 3, 3], dtype=torch.int16)
    target = torch.cat([fused, fused, fused, fused], 1)
    trainer.network = torch.nn.Conv3d(1, 2, 1)
    with torch.no_grad():  # everything is in both regions
        trainer.network.weight.zero_()
        trainer.network.bias.fill_(1)
    found = trainer.validation_step({"data": fused.float(), "target": target})
    groups = [set(group) for group in trainer.label_manager.foreground_regions]
    np.testing.assert_array_equal(found["tp_hard"], [len(group & {1, 2}) for group in groups])
    voxels = 8 * 16 * 16
    np.testing.assert_array_equal(found["fp_hard"], [voxels - 2 - len(group & {1, 2}) for group in groups])


def test_where_no_rater_says_anything_nothing_is_learned(ready: Callable[..., Path]) -> None:
    trainer = trainer_of(ready(CLASSES, ignored=5), FlatTrainer)
    trainer.initialize()
    logits = torch.randn(1, 3, 8, 16, 16, requires_grad=True)
    votes = torch.zeros(1, 4, 8, 16, 16, dtype=torch.int16)
    votes[:, 1:, :4] = trainer.label_manager.ignore_label
    votes[:, 2, 4:] = MISSING  # and a rater who is missing beside
    (gradient,) = torch.autograd.grad(trainer.loss(logits, votes), logits)
    assert not gradient[:, :, :4].any()
    assert gradient[:, :, 4:].any()


@pytest.mark.parametrize("kind", ["2d", "anisotropic"])
def test_flat_and_anisotropic_patches_train(ready: Callable[..., Path], kind: str) -> None:
    plans = tiny_plans((16, 16)) if kind == "2d" else tiny_plans((4, 16, 16))
    trainer = trainer_of(ready(CLASSES, plans=plans))
    trainer.run_training()
    assert np.isfinite(trainer.logger.get_value("val_losses", step=-1))


def test_plans_without_rater_channels_are_refused_in_one_line(nnunet_folders: Path) -> None:
    planned(nnunet_folders, cases=2)
    DefaultPreprocessor(verbose=False).run(NAME, "3d_fullres", "nnUNetPlans", 1)
    trainer = trainer_of(nnunet_folders, plans="nnUNetPlans")
    command = f"run `monai-jdt nnunet preprocess {NAME} -p nnUNetPlans`"
    with pytest.raises(ValueError, match=f"one channel per rater behind the fused label, got the label alone. Fix: {command}"):
        trainer.run_training()
    assert not (Path(trainer.output_folder_base) / "plans.json").exists()


def test_nnunet_finds_it_and_another_process_can_import_it(ready: Callable[..., Path]) -> None:
    """nnU-Net drops what it imported from that folder, so that nothing of it could be unpickled by a spawned worker."""
    folder = str(Path(ext_trainer.__file__).parent)
    found = recursive_find_python_class(folder, "nnUNetTrainerJDT", None, base_folder=folder, cleanup_imports_from_base_folder=True)
    assert found is nnUNetTrainerJDT
    assert "monai_jdt_nnunet_trainer" not in sys.modules
    trainer = trainer_of(ready())
    trainer.initialize()
    batch_of(trainer)
    loader = pickle.loads(pickle.dumps(trainer.dataloader_train.data_loader))
    assert next(loader)["target"].shape[1] == 4
    assert pickle.loads(pickle.dumps(nnUNetTrainerJDT)) is nnUNetTrainerJDT


def test_head_weights_are_nnunets_alone_and_under_ddp(ready: Callable[..., Path]) -> None:
    trainer = trainer_of(ready(plans=tiny_plans(batch_dice=True)))
    trainer.initialize()
    assert trainer.loss.deep.weights == [1.0]  # of two heads, the lowest has the weight 0
    assert trainer.loss.loss.recipe.averaging.sync_group is None
    trainer.is_ddp = True
    shared = trainer._build_loss()
    # DDP needs every parameter in the graph
    assert shared.deep.weights == pytest.approx([1 / (1 + 1e-6), 1e-6 / (1 + 1e-6)])
    assert shared.loss.recipe.averaging.sync_group is not None
