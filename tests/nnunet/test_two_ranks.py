"""nnU-Net's DDP with the votes: two processes with an image each have the losses of one process with both.

nnU-Net's DDP is for GPUs. Here its two lines about CUDA devices are replaced, all else is its own.
"""

from __future__ import annotations

import gc
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from tests.nnunet.tiny_data import NAME, planned, tiny_plans

pytest.importorskip("nnunetv2")

from nnunetv2.training.nnUNetTrainer import nnUNetTrainer as nnunet_module

from monai_jdt.nnunet.preprocessing import preprocess_raters
from monai_jdt.nnunet.raw_dataset import MISSING
from monai_jdt.nnunet.trainer import nnUNetTrainerJDT

CPU = torch.device("cpu")
STEPS = 3


class CpuTrainer(nnUNetTrainerJDT):
    def __init__(self, plans: dict, configuration: str, fold: int, dataset_json: dict, device: torch.device = CPU) -> None:
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.device, self.grad_scaler = CPU, None


def course(preprocessed: str, rank: int = 0, ranks: int = 1) -> tuple[list[float], torch.Tensor]:
    """Return the loss of each step and the weights after it, as a rank has them."""
    place = Path(preprocessed) / NAME
    plans = json.loads((place / "nnUNetPlansRaters.json").read_text()) | {"continue_training": False}
    trainer = CpuTrainer(plans, "3d_fullres", 0, json.loads((place / "dataset.json").read_text()))
    torch.manual_seed(0)
    trainer.initialize()
    trainer.network.train()
    generator = torch.Generator().manual_seed(1)
    data = torch.randn(2, 1, 8, 16, 16, generator=generator)
    target = (torch.rand(2, 4, 8, 16, 16, generator=generator) < 0.3).to(torch.int16)
    target[0, 2] = MISSING
    batch = {"data": data.chunk(ranks)[rank], "target": target.chunk(ranks)[rank]}
    losses = [float(trainer.train_step(batch)["loss"]) for _ in range(STEPS)]
    return losses, torch.cat([weight.detach().flatten() for weight in trainer.network.parameters()])


def _in_rank(rank: int, folder: str, preprocessed: str) -> None:
    torch.set_num_threads(1)
    ddp = torch.nn.parallel.DistributedDataParallel
    nnunet_module.DDP = lambda network, device_ids: ddp(network)
    meeting = f"file://{folder}/meeting"
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=2, timeout=timedelta(seconds=300))
    try:
        torch.save(course(preprocessed, rank, 2), Path(folder) / f"{rank}.pt")
        gc.collect()
        dist.barrier()
    finally:
        dist.destroy_process_group()


@pytest.mark.usefixtures("in_threads")
def test_two_ranks_equal_one_process(nnunet_folders: Path) -> None:
    planned(nnunet_folders, cases=2, plans=tiny_plans(batch_dice=True))
    preprocess_raters(NAME, ["3d_fullres"], processes=1)
    losses, weights = course(str(nnunet_folders / "preprocessed"))
    mp.spawn(_in_rank, (str(nnunet_folders), str(nnunet_folders / "preprocessed")), nprocs=2)
    of_ranks: list[Any] = [torch.load(nnunet_folders / f"{rank}.pt") for rank in range(2)]
    for found, own in of_ranks:
        # nnU-Net gives the lowest head a weight of 1e-6 under DDP, and 0 otherwise
        assert found == pytest.approx(losses, rel=1e-4)
        torch.testing.assert_close(own, weights, rtol=1e-3, atol=1e-4)
    assert losses[-1] < losses[0]
