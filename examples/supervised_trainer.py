"""Train on the votes of several raters with MONAI's `SupervisedTrainer`, in one process or in several with the same result.

It makes ten phantoms (synthetic, no patients) in memory: `python examples/supervised_trainer.py`, or with two processes
`torchrun --standalone --nproc_per_node=2 examples/supervised_trainer.py`.
"""

import gc
import os
from typing import Any

import torch
import torch.distributed as dist
from ignite.engine import Engine, Events
from monai.data import DataLoader, Dataset, DistributedSampler
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.handlers import ValidationHandler, from_engine
from monai.inferers import SlidingWindowInferer
from monai.networks.nets import SegResNet
from monai.transforms import Activationsd
from monai.utils import set_determinism
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from monai_jdt.data import brats_phantom
from monai_jdt.handlers import MeanThresholdedDice, mean_loss
from monai_jdt.losses import JDTCELoss

REGIONS = {"TC": [1, 4], "WT": [1, 2, 4], "ET": [4]}
MISSING = 255
BATCH = 4  # cases in a step, of all processes together


def make_case(index: int) -> dict[str, torch.Tensor]:
    """An image and five raters' label maps. A rater who did not see the case has the value MISSING everywhere."""
    phantom = brats_phantom(index, shape=(16, 16, 16))
    votes = torch.stack([torch.from_numpy(drawn) for drawn in phantom.raters.values()])
    votes = nn.functional.pad(votes, (0, 0) * 3 + (0, 5 - len(votes)), value=MISSING)
    return {"image": torch.from_numpy(phantom.image), "label": votes}


launched = "WORLD_SIZE" in os.environ  # by torchrun
if launched:
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
rank, ranks = (dist.get_rank(), dist.get_world_size()) if launched else (0, 1)
device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0))) if torch.cuda.is_available() else torch.device("cpu")

set_determinism(seed=0)
train_data = Dataset([make_case(index) for index in range(8)])
val_data = Dataset([make_case(index) for index in range(8, 10)])
# Transforms that draw, such as RandFlipd(["image", "label"]), belong into Dataset(..., transform). They would draw differently in two
# processes than in one.
sampler = DistributedSampler(train_data, shuffle=True, num_replicas=ranks, rank=rank)
val_sampler = DistributedSampler(val_data, shuffle=False, num_replicas=ranks, rank=rank)

network: nn.Module = SegResNet(in_channels=4, out_channels=len(REGIONS), init_filters=8, blocks_down=(1, 1), blocks_up=(1,)).to(device)
if launched:
    network = DistributedDataParallel(network)

# Votes go where MONAI's trainer expects the label, and nothing else changes. `sync`: the images of all processes are one batch.
votes: dict[str, Any] = {"votes": True, "regions": list(REGIONS.values()), "ignore_index": MISSING}
loss_function = JDTCELoss(sigmoid=True, sync=True, **votes)

evaluator = SupervisedEvaluator(
    device=device,
    val_data_loader=DataLoader(val_data, batch_size=1, sampler=val_sampler),
    network=network,
    inferer=SlidingWindowInferer(roi_size=(16, 16, 16)),
    postprocessing=Activationsd("pred", sigmoid=True),
    key_val_metric={
        "thresholded_dice": MeanThresholdedDice(output_transform=from_engine(["pred", "label"]), thresholds="qubiq", **votes)
    },
)
trainer = SupervisedTrainer(
    device=device,
    max_epochs=10,
    train_data_loader=DataLoader(train_data, batch_size=BATCH // ranks, sampler=sampler),
    network=network,
    optimizer=torch.optim.Adam(network.parameters(), lr=0.02),
    loss_function=loss_function,
    train_handlers=[ValidationHandler(interval=10, validator=evaluator)],
)
losses: list[float] = []


def new_epoch(engine: Engine) -> None:
    losses.clear()
    sampler.set_epoch(engine.state.epoch)


def tell(engine: Engine) -> None:
    if rank == 0:
        print(f"epoch {engine.state.epoch}: loss {sum(losses) / len(losses):.4f}")


trainer.add_event_handler(Events.EPOCH_STARTED, new_epoch)
trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: losses.append(mean_loss(engine.state.output)))
trainer.add_event_handler(Events.EPOCH_COMPLETED, tell)
trainer.run()
if rank == 0:
    print(f"thresholded Dice {evaluator.state.metrics['thresholded_dice']:.2f}")
if launched:
    # The network goes before its processes part: with gloo, the end of Python and the end of its threads may wait for each other.
    del trainer, evaluator, network
    gc.collect()
    dist.destroy_process_group()
