"""Two processes with a part of the batch each against one process with all of it, for every subject in one go."""

from __future__ import annotations

import gc
import os
import tempfile
import warnings
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from tests.present import present
from tests.promises.subjects import SUBJECTS, Subject

#: Which images each rank has: class 2 is in image 0 only.
SPLITS = (((0, 1), (2, 3)), ((0, 1, 2), (3,)))


def errors_of_ranks(kernel: str = "auto") -> dict[str, tuple[float, ...] | str]:
    """Subject -> relative error of the parameter gradients for each split, or what went wrong.

    Args:
        kernel: what `backend="auto"` takes.
    """
    if Path("/sys/class/net/lo").exists():
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(_in_rank, (folder, kernel), nprocs=2)
        return torch.load(Path(folder) / "errors.pt")


def _in_rank(rank: int, folder: str, kernel: str) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2, timeout=timedelta(seconds=120))
    try:
        errors = {subject.name: _errors(subject.on(kernel), rank) for subject in SUBJECTS if not subject.vectors}
        if rank == 0:
            torch.save(errors, Path(folder) / "errors.pt")
        # Nobody leaves while another still talks, nor while a DistributedDataParallel still holds the group.
        gc.collect()
        dist.barrier()
    finally:
        dist.destroy_process_group()


def _network() -> torch.nn.Module:
    torch.manual_seed(3)
    return torch.nn.Sequential(torch.nn.Conv1d(2, 4, 3, padding=1), torch.nn.Tanh(), torch.nn.Conv1d(4, 3, 1)).double()


def _data() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(4)
    images = torch.randn(4, 2, 12, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, 2, (4, 1, 12), generator=generator)
    labels[0, 0, :4] = 2
    return images, torch.cat([labels == c for c in range(3)], 1).double()


def _gradient(subject: Subject, network: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor, whole: bool) -> torch.Tensor:
    """Of the loss over the whole batch, which only a loss that has such sums can share over ranks."""
    options = {} if whole or not subject.syncs else {"sync": False}
    loss = subject.make("softmax", "dense", whole_batch=True, **options)
    subject.value(loss, network(images).to(subject.exact), labels).backward()
    return torch.cat([present(p.grad).flatten() for p in network.parameters()])


def _errors(subject: Subject, rank: int) -> tuple[float, ...] | str:
    images, labels = _data()
    try:
        alone = _gradient(subject, _network(), images, labels, whole=False)
    except Exception as error:  # on both ranks alike
        return f"raises {type(error).__name__}"
    errors = []
    for split in SPLITS:
        mine = list(split[rank])
        network = torch.nn.parallel.DistributedDataParallel(_network())
        together = _gradient(subject, network, images[mine], labels[mine], whole=True)
        errors.append(float((together - alone).norm() / alone.norm()))
    return tuple(errors)
