"""Train on the votes of several raters in a plain PyTorch loop, in one process or in several with the same result.

It makes ten phantoms (synthetic, no patients) in memory: `python examples/distributed_loop.py`, or with two processes
`torchrun --standalone --nproc_per_node=2 examples/distributed_loop.py`.
"""

import os

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset, DistributedSampler

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


class Phantoms(Dataset[dict[str, torch.Tensor]]):
    def __init__(self, count: int) -> None:
        self.cases = [make_case(index) for index in range(count)]

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return self.cases[index]


launched = "WORLD_SIZE" in os.environ  # by torchrun
if launched:
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
rank, ranks = (dist.get_rank(), dist.get_world_size()) if launched else (0, 1)
device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0))) if torch.cuda.is_available() else torch.device("cpu")

cases = Phantoms(8)
sampler: DistributedSampler = DistributedSampler(cases, num_replicas=ranks, rank=rank, shuffle=True, seed=0)
loader = DataLoader(cases, batch_size=BATCH // ranks, sampler=sampler)

torch.manual_seed(0)
network: nn.Module = nn.Sequential(
    nn.Conv3d(4, 16, 3, padding=1),
    nn.InstanceNorm3d(16),
    nn.ReLU(),
    nn.Conv3d(16, 16, 3, padding=1),
    nn.InstanceNorm3d(16),
    nn.ReLU(),
    nn.Conv3d(16, len(REGIONS), 1),
).to(device)
if launched:
    network = DistributedDataParallel(network)
optimizer = torch.optim.Adam(network.parameters(), lr=0.02)

# `sync`: the images of all processes are one batch for the loss. Without it, the gradient is the mean of the processes' own losses.
loss_function = JDTCELoss(sigmoid=True, votes=True, regions=list(REGIONS.values()), ignore_index=MISSING, sync=True)

for epoch in range(10):
    sampler.set_epoch(epoch)
    losses = []
    for batch in loader:
        optimizer.zero_grad()
        loss = loss_function(network(batch["image"].to(device)), batch["label"].to(device))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    if rank == 0:
        print(f"epoch {epoch + 1}: loss {sum(losses) / len(losses):.4f}")

# Each process scores its own cases. `aggregate` gathers the scores of all.
metric = ThresholdedDice(thresholds="qubiq", votes=True, regions=list(REGIONS.values()), ignore_index=MISSING, reduction="mean_batch")
with torch.no_grad():
    for index in range(8 + rank, 10, ranks):
        case = make_case(index)
        metric(y_pred=network(case["image"][None].to(device)).sigmoid(), y=case["label"][None].to(device))
scores = metric.aggregate()
if rank == 0:
    for name, score in zip(REGIONS, scores, strict=True):
        print(f"{name}: thresholded Dice {score:.2f}")
if launched:
    del network  # before its processes part: with gloo, the end of Python and the end of its threads may wait for each other
    dist.destroy_process_group()
