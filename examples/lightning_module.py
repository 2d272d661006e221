"""Train on the votes of several raters with PyTorch Lightning, in one process or in several with the same result.

It makes ten phantoms (synthetic, no patients) in memory: `python examples/lightning_module.py`, or with two processes
`torchrun --standalone --nproc_per_node=2 examples/lightning_module.py`. Needs `pip install 'monai-jdt[lightning]'`.
"""

import os
from typing import Any

import lightning
import torch
from monai.data import Dataset
from monai.networks.nets import SegResNet
from torch import nn
from torch.utils.data import DataLoader, DistributedSampler

from monai_jdt.data import brats_phantom
from monai_jdt.losses import JDTCELoss
from monai_jdt.metrics import ThresholdedDice

REGIONS = {"TC": [1, 4], "WT": [1, 2, 4], "ET": [4]}
MISSING = 255
BATCH = 4  # cases in a step, of all processes together


def make_case(index: int) -> dict[str, torch.Tensor]:
    """An image and five raters' label maps. A rater who did not see the case has the value MISSING everywhere."""
    phantom = brats_phantom(index, shape=(16, 16, 16))
    votes = torch.stack([torch.from_numpy(drawn) for drawn in phantom.raters.values()])
    votes = nn.functional.pad(votes, (0, 0) * 3 + (0, 5 - len(votes)), value=MISSING)
    return {"image": torch.from_numpy(phantom.image), "label": votes}


class Segmenter(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.network = SegResNet(in_channels=4, out_channels=len(REGIONS), init_filters=8, blocks_down=(1, 1), blocks_up=(1,))
        votes: dict[str, Any] = {"votes": True, "regions": list(REGIONS.values()), "ignore_index": MISSING}
        # `sync`: the images of all processes are one batch for the loss, and its value is the same in every process
        self.loss_function = JDTCELoss(sigmoid=True, sync=True, **votes)
        self.metric = ThresholdedDice(thresholds="qubiq", reduction="mean_batch", **votes)
        self.losses: list[float] = []

    def training_step(self, batch: dict[str, torch.Tensor], number: int) -> torch.Tensor:
        loss = self.loss_function(self.network(batch["image"]), batch["label"])
        self.log("loss", loss)  # without sync_dist: all processes have the same value
        self.losses.append(loss.item())
        return loss

    def on_train_epoch_end(self) -> None:
        self.print(f"epoch {self.current_epoch + 1}: loss {sum(self.losses) / len(self.losses):.4f}")
        self.losses.clear()

    def validation_step(self, batch: dict[str, torch.Tensor], number: int) -> None:
        # no loss here: with `sync` every process would have to compute it equally often
        self.metric(y_pred=self.network(batch["image"]).sigmoid(), y=batch["label"])

    def on_validation_epoch_end(self) -> None:
        for name, score in zip(REGIONS, self.metric.aggregate(), strict=True):  # of the cases of all processes
            self.print(f"{name}: thresholded Dice {score:.2f}")
        self.metric.reset()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=0.02)


# Without torchrun write devices=2, and Lightning starts the second process itself.
ranks = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
lightning.seed_everything(0, verbose=False)
trainer = lightning.Trainer(
    accelerator="auto",
    devices=ranks,
    strategy="ddp" if ranks > 1 else "auto",
    max_epochs=10,
    check_val_every_n_epoch=10,
    num_sanity_val_steps=0,
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
    enable_model_summary=False,
)
# Lightning gives each process its part of the cases, and shuffles those of a training on several processes even if the loader does not.
# With a sampler of ours one process has the order of several.
cases = Dataset([make_case(index) for index in range(8)])
sampler: DistributedSampler = DistributedSampler(cases, num_replicas=ranks, rank=int(os.environ.get("RANK", 0)), shuffle=True, seed=0)
train_loader: DataLoader = DataLoader(cases, batch_size=BATCH // ranks, sampler=sampler)
val_loader: DataLoader = DataLoader(Dataset([make_case(index) for index in range(8, 10)]), batch_size=1)
trainer.fit(Segmenter(), train_loader, val_loader)
