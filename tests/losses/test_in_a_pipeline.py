"""A MONAI pipeline whose loss is exchanged for ours trains the same on hard labels: ten steps of `SupervisedTrainer`.

In float64: in float32 the network itself (ReLU kinks, max pooling) amplifies a last digit to 1e-3 of the gradient within ten steps,
also between MONAI's loss and MONAI's loss with its voxels summed in another order.
"""

from __future__ import annotations

import pytest
import torch
from ignite.engine import Events
from monai.bundle import ConfigParser
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedTrainer
from monai.networks.nets import BasicUNet
from monai.utils import set_determinism

from tests.present import present

STEPS = 10
MINE = "monai_jdt.losses."


def _cases(channels: int) -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(7)
    cases = []
    for _ in range(2 * STEPS):
        image = torch.randn(1, 32, 32, 16, generator=generator, dtype=torch.float64)
        smooth = torch.nn.functional.avg_pool3d(image[None], 5, 1, 2)[0]
        label = (smooth > 0.05).long() + (smooth > 0.12).long()
        cases.append({"image": image + 2 * smooth, "label": label if channels == 3 else (label > 0).double()})
    return cases


def _train(loss_config: dict, channels: int) -> tuple[list[float], list[torch.Tensor]]:
    """Losses and parameter gradients of each step; the loss comes from a config, as in a bundle."""
    set_determinism(0)
    network = BasicUNet(3, 1, channels, features=(4, 4, 8, 8, 8, 4), norm=("instance", {"affine": True})).double()
    parser = ConfigParser({"loss": loss_config})
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=1,
        train_data_loader=DataLoader(Dataset(_cases(channels)), batch_size=2, shuffle=False),
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=0.05),
        loss_function=parser.get_parsed_content("loss"),
        decollate=False,
    )
    losses, gradients = [], []

    def keep(engine: SupervisedTrainer) -> None:
        losses.append(float(engine.state.output["loss"]))
        gradients.append(torch.cat([present(p.grad).flatten() for p in network.parameters()]).clone())

    trainer.add_event_handler(Events.ITERATION_COMPLETED, keep)
    trainer.run()
    set_determinism(None)
    return losses, gradients


#: MONAI's config, and ours: the same but for `_target_`, except where MONAI's compound smooths twice its tp.
PAIRS = {
    "DiceLoss": (
        3,
        {"_target_": "monai.losses.DiceLoss", "softmax": True, "to_onehot_y": True},
        {"_target_": MINE + "DiceSemimetricLoss", "softmax": True, "to_onehot_y": True},
    ),
    "DiceLoss as in MONAI's BraTS recipe": (
        1,
        {"_target_": "monai.losses.DiceLoss", "smooth_nr": 0, "smooth_dr": 1e-5, "squared_pred": True, "sigmoid": True},
        {"_target_": MINE + "DiceSemimetricLoss", "smooth_nr": 0, "smooth_dr": 1e-5, "squared_pred": True, "sigmoid": True},
    ),
    "TverskyLoss": (
        3,
        {"_target_": "monai.losses.TverskyLoss", "softmax": True, "to_onehot_y": True, "alpha": 0.3, "beta": 0.7},
        {"_target_": MINE + "CompatibleTverskyLoss", "softmax": True, "to_onehot_y": True, "alpha": 0.3, "beta": 0.7},
    ),
    "DiceCELoss": (
        3,
        {"_target_": "monai.losses.DiceCELoss", "softmax": True, "to_onehot_y": True, "include_background": False},
        {
            "_target_": MINE + "JDTCELoss",
            "softmax": True,
            "to_onehot_y": True,
            "include_background": False,
            "alpha": 0.5,
            "beta": 0.5,
            "lambda_jdt": 1.0,
            "lambda_ce": 1.0,
            "smooth_nr": 5e-6,
            "smooth_dr": 5e-6,
        },
    ),
    "DiceCELoss, sigmoid": (
        1,
        {"_target_": "monai.losses.DiceCELoss", "sigmoid": True},
        {
            "_target_": MINE + "JDTCELoss",
            "sigmoid": True,
            "alpha": 0.5,
            "beta": 0.5,
            "lambda_jdt": 1.0,
            "lambda_ce": 1.0,
            "smooth_nr": 5e-6,
            "smooth_dr": 5e-6,
        },
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_ten_steps_are_the_same(name: str) -> None:
    channels, theirs, ours = PAIRS[name]
    losses, gradients = _train(theirs, channels)
    our_losses, our_gradients = _train(ours, channels)
    assert len(losses) == STEPS
    assert losses[-1] < losses[0]
    for one, other in zip(our_losses, losses, strict=True):
        assert abs(one - other) < 1e-6 * abs(other)
    for slope, their_slope in zip(our_gradients, gradients, strict=True):
        assert (slope - their_slope).norm() < 1e-6 * their_slope.norm()
