"""`sync=True`: several processes with a part of the batch each are one process with all of it, in value and parameter gradient."""

from __future__ import annotations

import copy
import gc
import os
import pickle
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor

from monai_jdt.kernels.registry import is_installed
from monai_jdt.losses import (
    CompatibleTverskyLoss,
    DiceSemimetricLoss,
    DistillationLoss,
    JaccardMetricLoss,
    JDTCELoss,
    JDTFocalLoss,
    JDTLoss,
    SoftDeepSupervisionLoss,
)
from tests.forced import auto_takes
from tests.present import present

IGNORED = 255
CLASSES = 3

#: name -> a function from `sync` to a loss. alpha != beta where the class allows it.
LOSSES = {
    "pairs": lambda sync: JDTLoss(softmax=True, to_onehot_y=True, ignore_index=IGNORED, alpha=0.3, beta=0.7, sync=sync),
    "batch": lambda sync: DiceSemimetricLoss(softmax=True, to_onehot_y=True, ignore_index=IGNORED, batch=True, sync=sync),
    "dataset, present": lambda sync: JaccardMetricLoss(
        softmax=True, to_onehot_y=True, ignore_index=IGNORED, average="dataset", classes="present", sync=sync
    ),
    "image, present": lambda sync: JDTLoss(
        softmax=True, to_onehot_y=True, ignore_index=IGNORED, average="image", classes="present", sync=sync
    ),
    "class, present": lambda sync: JDTLoss(
        softmax=True, to_onehot_y=True, ignore_index=IGNORED, average="class", classes="present", weight=[1.0, 2.0, 5.0], sync=sync
    ),
    "mixed": lambda sync: CompatibleTverskyLoss(
        softmax=True,
        to_onehot_y=True,
        ignore_index=IGNORED,
        alpha=0.2,
        average={"dataset": 0.2, "image": 0.3, "class": 0.5},
        classes="present",
        log_loss=True,
        sync=sync,
    ),
    "pooled": lambda sync: JDTLoss(
        softmax=True, to_onehot_y=True, ignore_index=IGNORED, batch=True, classes="pooled", gamma=1.5, sync=sync
    ),
    "cross-entropy": lambda sync: JDTCELoss(
        softmax=True, to_onehot_y=True, ignore_index=IGNORED, average="class", weight=[1.0, 3.0, 20.0], sync=sync
    ),
    "focal": lambda sync: JDTFocalLoss(softmax=True, to_onehot_y=True, ignore_index=IGNORED, batch=True, sync=sync),
}


def _network() -> torch.nn.Module:
    torch.manual_seed(3)
    return torch.nn.Sequential(torch.nn.Conv1d(2, 4, 3, padding=1), torch.nn.Tanh(), torch.nn.Conv1d(4, CLASSES, 1)).double()


def _data() -> tuple[torch.Tensor, torch.Tensor]:
    """Six images; class 2 is in the first only, and the last two are wholly ignored."""
    torch.manual_seed(4)
    images = torch.randn(6, 2, 12, dtype=torch.float64)
    labels = torch.randint(0, 2, (6, 1, 12))
    labels[0, 0, :4] = 2
    labels[1, 0, 3:9] = IGNORED
    labels[4:] = IGNORED
    return images, labels


#: who gets which images: the class on one rank only, uneven, an empty rank, a fully ignored rank.
SPLITS = {
    2: {"halves": [[0, 1, 2], [3, 4, 5]], "uneven": [[0, 1, 2, 3, 4], [5]], "one rank without images": [[0, 1, 2, 3, 4, 5], []]},
    3: {"thirds": [[0, 1], [2, 3], [4, 5]], "uneven": [[3], [4, 0, 1, 5], [2]]},
}


def _value_and_gradients(network: torch.nn.Module, loss: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    network.zero_grad()
    loss.backward()
    return loss.detach(), torch.cat([present(p.grad).flatten() for p in network.parameters()])


def _expect(case: str, got: tuple[torch.Tensor, torch.Tensor], expected: tuple[torch.Tensor, torch.Tensor]) -> None:
    for what, one, other in zip(("value", "gradient"), got, expected, strict=True):
        error = (one - other).abs().max() / other.abs().max()
        assert error < 1e-5, f"{case}: {what} off by {error:.2e}"


def _in_rank(rank: int, world: int, meeting: str, backend: str) -> None:
    torch.set_num_threads(1)
    images, labels = _data()
    alone = {}
    for name, make in LOSSES.items():
        network = _network()
        alone[name] = _value_and_gradients(network, make(False)(network(images), labels))
    # A rank that fails must fail the test, not keep the others waiting for half an hour.
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=world, timeout=timedelta(seconds=120))
    try:
        _compare(rank, world, backend, alone)
        # Nobody leaves while another still talks, nor while a DistributedDataParallel still holds the group.
        gc.collect()
        dist.barrier()
        Path(f"{meeting}.compared.{rank}").touch()
    finally:
        dist.destroy_process_group()


def _compare(rank: int, world: int, backend: str, alone: dict[str, tuple[torch.Tensor, torch.Tensor]]) -> None:
    images, labels = _data()
    for split, parts in SPLITS[world].items():
        mine = parts[rank]
        for name, make in LOSSES.items():
            network = torch.nn.parallel.DistributedDataParallel(_network())
            got = _value_and_gradients(network, make(True)(network(images[mine]), labels[mine]))
            _expect(f"{world} ranks, {split}, {name}", got, alone[name])
    _compare_ranks_with_other_kernels(rank, world)
    _compare_unlabelled_ranks(rank, world)
    mine = SPLITS[world]["uneven"][rank]
    for name in ("mixed", "cross-entropy"):
        network = torch.nn.parallel.DistributedDataParallel(_network())
        compiled = torch.compile(LOSSES[name](True), fullgraph=True, backend=backend)
        got = _value_and_gradients(network, compiled(network(images[mine]), labels[mine]))
        _expect(f"{world} ranks, compiled, {name}", got, alone[name])


def _compare_ranks_with_other_kernels(rank: int, world: int) -> None:
    """With `auto`, a rank whose batch is small or empty runs on `eager`, in another dtype of the sums than a fast kernel's."""
    source = torch.Generator().manual_seed(8)
    logits = torch.randn(2, CLASSES, 2000, generator=source)
    labels = torch.randint(0, CLASSES, (2, 1, 2000), generator=source)
    for name, make in LOSSES.items():
        whole = logits.clone().requires_grad_()
        expected = make(False)(whole, labels)
        expected.backward()
        mine = slice(0, 2) if rank == 0 else slice(2, 2)
        part = logits[mine].clone().requires_grad_()
        loss = make(True)
        value = loss(part, labels[mine])
        value.backward()
        assert loss.backend_used != "eager" if rank == 0 else loss.backend_used == "eager"
        assert abs(value - expected) < 1e-5 * abs(expected), name
        # of a rank's logits: world times its share of the gradient
        torch.testing.assert_close(present(part.grad), world * present(whole.grad)[mine], rtol=1e-4, atol=1e-9)


def _in_rank_on(rank: int, world: int, meeting: str, kernel: str) -> None:
    """Every loss on `kernel` in both halves of a split, against one process in float64 on the eager kernel."""
    torch.set_num_threads(1)
    images, labels = _data()
    dtype = torch.float32 if kernel == "numba" else torch.float64
    alone = {}
    for name, make in LOSSES.items():
        network = _network()
        alone[name] = _value_and_gradients(network, make(False)(network(images), labels))
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=world, timeout=timedelta(seconds=120))
    try:
        with auto_takes(kernel):
            for split, parts in SPLITS[world].items():
                mine = parts[rank]
                for name, make in LOSSES.items():
                    network = torch.nn.parallel.DistributedDataParallel(_network())
                    loss = make(True)
                    got = _value_and_gradients(network, loss(network(images[mine]).to(dtype), labels[mine]))
                    assert loss.backend_used == kernel, (split, name)
                    _expect(f"{world} ranks on {kernel}, {split}, {name}", got, alone[name])
        gc.collect()
        dist.barrier()
        Path(f"{meeting}.compared.{rank}").touch()
    finally:
        dist.destroy_process_group()


def _compare_unlabelled_ranks(rank: int, world: int) -> None:
    """The first rank has labels, the others a teacher only: the label half is that of the first rank's images alone."""
    images, labels = _data()
    teacher = torch.randn(6, CLASSES, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    options: dict[str, Any] = {"softmax": True, "to_onehot_y": True, "ignore_index": IGNORED, "average": "image", "temperature": 2.0}
    parts = [[0, 1, 2], *[list(range(3, 6))[r - 1 :: world - 1] for r in range(1, world)]]

    network = _network()
    logits = network(images)
    label_half = DistillationLoss(**options, lambda_teacher=0.0)(logits[:3], labels[:3], teacher[:3])
    known = labels != IGNORED
    known[3:] = True  # without a target nothing is ignored
    teacher_half = DistillationLoss(**options, lambda_label=0.0)(logits, None, teacher, known)
    alone = _value_and_gradients(network, label_half + teacher_half)

    network = torch.nn.parallel.DistributedDataParallel(_network())
    mine = parts[rank]
    target = labels[mine] if rank == 0 else None
    got = _value_and_gradients(network, DistillationLoss(**options, sync=True)(network(images[mine]), target, teacher[mine]))
    _expect(f"{world} ranks, labels on the first only", got, alone)


def _in_rank_of_a_group(rank: int, meeting: str) -> None:
    """Two of three ranks call the loss, each with a part of their data; then all three have one distributed tensor."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=3, timeout=timedelta(seconds=60))
    try:
        group = dist.new_group([0, 1])
        logits, label = torch.randn(6, 3, 8, generator=torch.Generator().manual_seed(1)), torch.randint(0, 3, (6, 1, 8))
        dist.broadcast(label, 0)
        alone = logits.clone().requires_grad_()
        expected = JDTLoss(softmax=True, to_onehot_y=True, average="dataset")(alone, label)
        expected.backward()
        loss = JDTLoss(softmax=True, to_onehot_y=True, average="dataset", sync=True, group=group)
        if rank == 2:
            with pytest.raises(ValueError, match="group: expected a process group with this rank"):
                loss(logits, label)
        else:
            mine = slice(3 * rank, 3 * rank + 3)
            later = JDTLoss(softmax=True, to_onehot_y=True, average="dataset", sync=True)
            later.group = group
            compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
            for same in (loss, later, pickle.loads(pickle.dumps(copy.deepcopy(loss))), compiled):
                part = logits[mine].clone().requires_grad_()
                value = same(part, label[mine])
                value.backward()
                torch.testing.assert_close(value, expected)
                torch.testing.assert_close(
                    present(part.grad) / 2, present(alone.grad)[mine]
                )  # a rank's gradient is the group's size times its share
            assert loss.group is group
        _compare_distributed_tensors(logits, label, present(alone.grad), expected)
        dist.barrier()
        Path(f"{meeting}.compared.{rank}").touch()
    finally:
        dist.destroy_process_group()


def _compare_distributed_tensors(logits: torch.Tensor, label: torch.Tensor, gradient: torch.Tensor, expected: torch.Tensor) -> None:
    mesh = init_device_mesh("cpu", (3,))
    loss = JDTLoss(softmax=True, to_onehot_y=True, average="dataset")
    for placement in (Replicate(), Shard(0), Shard(2), Shard(1)):
        spread = distribute_tensor(logits, mesh, [placement]).requires_grad_()
        for target in (label, distribute_tensor(label, mesh, [Replicate() if placement == Shard(1) else placement])):
            spread.grad = None
            value = loss(spread, target)
            value.backward()
            assert type(value) is torch.Tensor
            torch.testing.assert_close(value, expected)
            assert isinstance(spread.grad, DTensor)
            torch.testing.assert_close(spread.grad.full_tensor(), gradient)
    with pytest.raises(ValueError, match=r"target: .*DTensor.* Fix: .*to_local"):
        loss(distribute_tensor(logits, mesh, [Shard(0)]), label[:2])
    _refuse_to_add_the_whole(logits, label, mesh)


def _refuse_to_add_the_whole(logits: torch.Tensor, label: torch.Tensor, mesh: DeviceMesh) -> None:
    """Every rank has all of a gathered tensor: with sync it would count three times, and the smoothing once."""
    options: dict[str, Any] = {"softmax": True, "to_onehot_y": True, "sync": True}
    whole, index = distribute_tensor(logits, mesh, [Shard(0)]), distribute_tensor(label, mesh, [Replicate()])
    calls = {
        "input": lambda: JDTCELoss(**options)(whole, label),
        "target": lambda: JDTCELoss(**options)(logits, index),
        "mask": lambda: JDTLoss(**options)(logits, label, index == index),
        "teacher_logits": lambda: DistillationLoss(**options)(logits, label, whole),
        "input[0]": lambda: SoftDeepSupervisionLoss(JDTLoss(**options))([whole], label),
    }
    for name, call in calls.items():
        with pytest.raises(ValueError, match=rf"{re.escape(name)}: .*DTensor over the ranks that sync adds.* Fix: .*to_local"):
            call()


def test_a_group_of_ranks_and_distributed_tensors(tmp_path: Path) -> None:
    mp.spawn(_in_rank_of_a_group, (str(tmp_path / "meeting"),), nprocs=3)
    assert len(list(tmp_path.glob("meeting.compared.*"))) == 3


def test_what_a_group_may_be(one_rank: None) -> None:
    with pytest.raises(TypeError, match=r"group: expected a torch.distributed process group.*got list"):
        JDTLoss(softmax=True, sync=True, group=[0])
    with pytest.raises(ValueError, match="group: expected sync=True"):
        JDTLoss(softmax=True, group=dist.group.WORLD)
    elsewhere = JDTLoss(softmax=True, sync=True, group=dist.new_group([0]))
    elsewhere.recipe = replace(elsewhere.recipe, averaging=replace(elsewhere.recipe.averaging, group="of another process"))
    with pytest.raises(ValueError, match=r"group: expected a process group of this process.* Fix: set loss.group"):
        elsewhere(torch.randn(1, 3, 4), torch.rand(1, 3, 4).softmax(1))


@pytest.mark.parametrize("world", [2, 3])
def test_ranks_are_one_process(world: int, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    backend = "inductor" if request.config.getoption("--long") else "aot_eager"
    mp.spawn(_in_rank, (world, str(tmp_path / "meeting"), backend), nprocs=world)  # raises what a rank raises
    assert len(list(tmp_path.glob("meeting.compared.*"))) == world


@pytest.mark.parametrize("kernel", ["numba", pytest.param("chunked", marks=pytest.mark.long)])
def test_ranks_are_one_process_on_fast_kernels(kernel: str, tmp_path: Path) -> None:
    if kernel == "numba" and not is_installed("numba"):
        pytest.skip("needs numba")
    mp.spawn(_in_rank_on, (2, str(tmp_path / "meeting"), kernel), nprocs=2)
    assert len(list(tmp_path.glob("meeting.compared.*"))) == 2


def test_without_sync_ranks_are_not_one_process() -> None:
    """The case is one where it matters: the mean of the ranks' own losses is another number."""
    images, labels = _data()
    loss = LOSSES["dataset, present"](False)
    logits = _network()(images)
    mean = sum(loss(logits[part], labels[part]) for part in SPLITS[2]["halves"]) / 2
    assert abs(float(mean - loss(logits, labels))) > 0.01


@pytest.fixture
def one_rank(tmp_path: Path) -> Iterator[None]:
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo") if Path("/sys/class/net/lo").exists() else None
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'meeting'}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize("name", LOSSES)
def test_one_rank_is_no_group_bit_for_bit(name: str, one_rank: None) -> None:
    images, labels = _data()
    results = []
    for sync in (False, True):
        network = _network()
        results.append(_value_and_gradients(network, LOSSES[name](sync)(network(images), labels)))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


def test_distributed_tensors_of_one_rank_are_added_once(one_rank: None) -> None:
    images, labels = _data()
    logits = _network()(images).detach()
    mesh = init_device_mesh("cpu", (1,))
    for make in LOSSES.values():
        got = make(True)(distribute_tensor(logits, mesh, [Shard(0)]), distribute_tensor(labels, mesh, [Shard(0)]))
        assert torch.equal(got, make(True)(logits, labels))


def test_distillation_and_deep_supervision_in_one_rank(one_rank: None) -> None:
    images, labels = _data()
    logits = _network()(images)
    for make in (
        lambda sync: DistillationLoss(softmax=True, to_onehot_y=True, ignore_index=IGNORED, temperature=2.0, sync=sync),
        lambda sync: SoftDeepSupervisionLoss(LOSSES["mixed"](sync)),
    ):
        arguments = (logits, labels, logits.detach().roll(1, 0)) if "temperature" in repr(make(False)) else ([logits], labels)
        assert torch.equal(make(False)(*arguments), make(True)(*arguments))


def test_no_group_is_no_op() -> None:
    images, labels = _data()
    logits = _network()(images)
    for make in LOSSES.values():
        assert torch.equal(make(True)(logits, labels), make(False)(logits, labels))
