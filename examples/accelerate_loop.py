"""Train on the votes of several raters with Hugging Face Accelerate, in one process or in several with the same result.

It makes ten phantoms (synthetic, no patients) in memory: `python examples/accelerate_loop.py`, or with two processes
`torchrun --standalone --nproc_per_node=2 examples/accelerate_loop.py` (or `accelerate launch`). Needs
`pip install 'monai-jdt[accelerate]'`.
"""

from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration, set_seed
from monai.data import Dataset
from monai.networks.nets import SegResNet
from torch import nn
from torch.utils.data import DataLoader

from monai_jdt.data import brats_phantom
from monai_jdt.losses import JDTCELoss
from monai_jdt.metrics import ThresholdedDice

REGIONS = {"TC": [1, 4], "WT": [1, 2, 4], "ET": [4]}
MISSING = 255


def make_case(index: int) -> dict[str, torch.Tensor]:
    """An image and five raters' label maps. A rater who did not see the case has the value MISSING everywhere."""
    phantom = brats_phantom(index, shape=(16, 16, 16))
    votes = torch.stack([torch.from_numpy(drawn) for drawn in phantom.raters.values()])
    votes = nn.functional.pad(votes, (0, 0) * 3 + (0, 5 - len(votes)), value=MISSING)
    return {"image": torch.from_numpy(phantom.image), "label": votes}


# split_batches: batch_size is that of all processes together. use_seedable_sampler: the order does not depend on their number.
# cpu: without it, processes without a GPU do not find each other.
loading = DataLoaderConfiguration(split_batches=True, use_seedable_sampler=True)
accelerator = Accelerator(dataloader_config=loading, cpu=not torch.cuda.is_available())
set_seed(0)
votes: dict[str, Any] = {"votes": True, "regions": list(REGIONS.values()), "ignore_index": MISSING}
network = SegResNet(in_channels=4, out_channels=len(REGIONS), init_filters=8, blocks_down=(1, 1), blocks_up=(1,))
optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
loader: DataLoader = DataLoader(Dataset([make_case(index) for index in range(8)]), batch_size=4, shuffle=True)
network, optimizer, loader = accelerator.prepare(network, optimizer, loader)

# `sync`: the images of all processes are one batch for the loss. Without it, the gradient is the mean of the processes' own losses.
loss_function = JDTCELoss(sigmoid=True, sync=True, **votes)
for epoch in range(10):
    losses = []
    for batch in loader:
        optimizer.zero_grad()
        loss = loss_function(network(batch["image"]), batch["label"])
        accelerator.backward(loss)
        optimizer.step()
        losses.append(loss.item())
    accelerator.print(f"epoch {epoch + 1}: loss {sum(losses) / len(losses):.4f}")

# Each process scores its own cases. `aggregate` gathers the scores of all.
metric = ThresholdedDice(thresholds="qubiq", reduction="mean_batch", **votes)
with torch.no_grad():
    for index in range(8 + accelerator.process_index, 10, accelerator.num_processes):
        case = {key: value[None].to(accelerator.device) for key, value in make_case(index).items()}
        metric(y_pred=network(case["image"]).sigmoid(), y=case["label"])
for name, score in zip(REGIONS, metric.aggregate(), strict=True):
    accelerator.print(f"{name}: thresholded Dice {score:.2f}")
accelerator.end_training()
