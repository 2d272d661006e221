"""Distillation and mean teacher on two processes with a part of the batch each: the losses of one process with all of it."""

from __future__ import annotations

import gc
import os
import warnings
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from monai_jdt.losses import DistillationLoss, JDTCELoss
from monai_jdt.teachers import MeanTeacher, SemiSupervisedLoss, TeacherEnsemble, TeacherPrepareBatch, TeacherStudentLoss

KINDS = ("distillation", "distillation of votes", "mean teacher", "mean teacher of votes")
STEPS = 4
#: Of four images the third has no label, so that the ranks have two labels and one.
LABELLED = torch.tensor([True, True, False, True])


def _network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv1d(1, 4, 3, padding=1), nn.Tanh(), nn.Conv1d(4, 2, 1))


def _batch(kind: str) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    image, weak = torch.randn(2, 4, 1, 24, generator=generator)
    votes = (torch.rand(4, 3, 24, generator=generator) < 0.4).to(torch.uint8)
    share = votes.float().mean(1, keepdim=True)
    label = votes if "votes" in kind else torch.cat([1 - share, share], 1)
    return {"image": image, "weak": weak, "label": label, **({"labelled": LABELLED} if "mean" in kind else {})}


def losses_of(kind: str, rank: int = 0, ranks: int = 1) -> list[float]:
    """The loss of each step, as a rank says it of its part of the batch."""
    student: nn.Module = _network(0)
    if ranks > 1:
        student = DistributedDataParallel(student)
    optimizer = torch.optim.SGD(student.parameters(), 0.5)
    options: dict[str, Any] = {"softmax": True, "batch": True, "sync": True, "alpha": 0.4, "beta": 0.6}
    of_label: dict[str, Any] = {**options, "votes": "votes" in kind}
    if "distillation" in kind:
        prepare = TeacherPrepareBatch(TeacherEnsemble([_network(1), _network(2)], softmax=True), teacher_image_key="weak")
        loss: nn.Module = TeacherStudentLoss(DistillationLoss(temperature=2.0, **of_label))
    else:
        teacher = MeanTeacher(student, decay=0.5)
        teacher.follow(student, optimizer)
        prepare = TeacherPrepareBatch(teacher, softmax=True, confidence=0.55, teacher_image_key="weak")
        loss = SemiSupervisedLoss(JDTCELoss(**of_label), DistillationLoss(**options), weight=0.5)
    share = {key: value.chunk(ranks)[rank] for key, value in _batch(kind).items()}
    found = []
    for _ in range(STEPS):
        image, target = prepare(share)
        value = loss(student(image), target)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        found.append(float(value.detach()))
    return found


def _in_rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2, timeout=timedelta(seconds=120))
    try:
        torch.save({kind: losses_of(kind, rank, 2) for kind in KINDS}, Path(folder) / f"{rank}.pt")
        # nobody leaves while another still talks, nor while a DistributedDataParallel still holds the group
        gc.collect()
        dist.barrier()
    finally:
        dist.destroy_process_group()


@pytest.fixture(scope="module")
def of_ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, list[float]]]:
    if Path("/sys/class/net/lo").exists():
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    folder = tmp_path_factory.mktemp("ranks")
    mp.spawn(_in_rank, (str(folder),), nprocs=2)
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("kind", KINDS)
def test_two_ranks_learn_from_a_teacher_as_one(kind: str, of_ranks: list[dict[str, list[float]]]) -> None:
    alone = losses_of(kind)
    assert len({round(value, 4) for value in alone}) == STEPS  # each step learns
    for rank in range(2):
        assert of_ranks[rank][kind] == pytest.approx(alone, abs=1e-5)
