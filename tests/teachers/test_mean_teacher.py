"""The moving average of a student, and when it moves."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from monai_jdt.teachers import MeanTeacher


def student() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv1d(1, 2, 1), nn.BatchNorm1d(2), nn.Dropout(0.5), nn.Conv1d(2, 1, 1))


def train(network: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    for step in range(steps):
        optimizer.zero_grad()
        network(torch.randn(4, 1, 8, generator=torch.Generator().manual_seed(step))).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize("warm_up", [False, True])
def test_weights_are_the_moving_average_and_buffers_the_students(warm_up: bool) -> None:
    network = student()
    teacher = MeanTeacher(network, decay=0.8, warm_up=warm_up)
    expected = {name: value.detach().clone() for name, value in network.named_parameters()}
    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    teacher.follow(network, optimizer)
    for step in range(1, 6):
        train(network, optimizer, 1)
        decay = min(0.8, step / (step + 9)) if warm_up else 0.8
        for name, value in network.named_parameters():
            expected[name] = decay * expected[name] + (1 - decay) * value.detach()
    for name, value in teacher.network.named_parameters():
        torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-7)
    for ours, theirs in zip(teacher.network.buffers(), network.buffers(), strict=True):
        assert torch.equal(ours, theirs)
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert not any(module.training for module in teacher.train().modules())


def test_a_step_that_is_left_out_does_not_move_the_teacher() -> None:
    network = student()
    teacher = MeanTeacher(network)
    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    handle = teacher.follow(network, optimizer)
    before = copy.deepcopy(teacher.state_dict())
    # gradients are gathered, and the optimizer does not step
    network(torch.ones(4, 1, 8)).sum().backward()
    assert all(torch.equal(before[name], value) for name, value in teacher.state_dict().items())
    optimizer.step()
    assert int(teacher.average.n_averaged) == 2
    handle.remove()
    optimizer.step()
    assert int(teacher.average.n_averaged) == 2


def test_a_fused_optimizer_that_leaves_a_step_out_does_not_move_the_teacher() -> None:
    network = student()
    teacher = MeanTeacher(network)
    optimizer = torch.optim.AdamW(network.parameters(), fused=True)
    teacher.follow(network, optimizer)
    scaler = torch.amp.GradScaler("cpu", init_scale=1.0)
    for factor, updates in ((torch.inf, 1), (1.0, 2)):
        optimizer.zero_grad()
        scaler.scale(network(torch.ones(4, 1, 8)).sum() * factor).backward()
        scaler.step(optimizer)
        scaler.update()
        assert int(teacher.average.n_averaged) == updates


def test_a_resumed_teacher_goes_on_as_before() -> None:
    network = student()
    teacher, optimizer = MeanTeacher(network), torch.optim.SGD(network.parameters(), 0.1)
    teacher.follow(network, optimizer)
    train(network, optimizer, 3)
    saved = copy.deepcopy((network.state_dict(), teacher.state_dict()))
    train(network, optimizer, 2)
    again = student()
    resumed, other = MeanTeacher(again), torch.optim.SGD(again.parameters(), 0.1)
    again.load_state_dict(saved[0])
    resumed.load_state_dict(saved[1])
    resumed.follow(again, other)
    torch.manual_seed(5)
    network.load_state_dict(saved[0])
    teacher.load_state_dict(saved[1])
    train(network, optimizer, 2)
    torch.manual_seed(5)
    train(again, other, 2)
    for name, value in teacher.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_the_students_names_are_the_averages() -> None:
    network = student()
    assert set(MeanTeacher(nn.DataParallel(network)).network.state_dict()) == set(network.state_dict())


@pytest.mark.parametrize("decay", [-0.1, 1, 2.0])
def test_decay_is_below_1(decay: float) -> None:
    with pytest.raises(ValueError, match=r"decay: expected a .*number >= 0"):
        MeanTeacher(student(), decay=decay)
