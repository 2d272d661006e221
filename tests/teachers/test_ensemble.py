"""A teacher of several networks: the logits of their mean probability."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from monai_jdt.teachers import TeacherEnsemble, load_teachers


class Shifted(nn.Module):
    """A network that adds a number to each channel, so that its output is known."""

    def __init__(self, shift: float) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.tensor([shift, 0.0, -shift], dtype=torch.float64).reshape(1, 3, 1))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image + self.shift


def images() -> torch.Tensor:
    return 20 * torch.randn(2, 3, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_softmax_of_the_logits_is_the_mean_probability() -> None:
    networks = [Shifted(shift) for shift in (-2.0, 0.5, 3.0)]
    expected = torch.stack([network(images()).softmax(1) for network in networks]).mean(0)
    got = TeacherEnsemble(networks, softmax=True)(images())
    torch.testing.assert_close(got.softmax(1), expected, rtol=1e-12, atol=1e-300)
    torch.testing.assert_close(got.exp(), expected, rtol=1e-12, atol=1e-300)


def test_sigmoid_of_the_logits_is_the_mean_probability_near_0_and_1_too() -> None:
    networks = [Shifted(shift) for shift in (-2.0, 0.5)]
    mean = TeacherEnsemble(networks, sigmoid=True)(images())
    for sign in (1, -1):
        expected = torch.stack([torch.sigmoid(sign * network(images())) for network in networks]).mean(0)
        torch.testing.assert_close(torch.sigmoid(sign * mean), expected, rtol=1e-10, atol=0)


def test_half_precision_logits_are_averaged_in_float32() -> None:
    network = nn.Identity()
    logits = torch.full((1, 2, 4), 9.0, dtype=torch.bfloat16)
    assert TeacherEnsemble([network, network], softmax=True)(logits).dtype is torch.float32
    assert TeacherEnsemble([network], softmax=True)(logits).dtype is torch.float32


def test_one_network_keeps_its_logits() -> None:
    network = Shifted(1.0)
    assert torch.equal(TeacherEnsemble([network], softmax=True)(images()), network(images()))


def test_a_teacher_is_never_trained() -> None:
    network = nn.Sequential(Shifted(0.0), nn.Dropout(0.5), nn.BatchNorm1d(3))
    teacher = nn.Sequential(TeacherEnsemble([network], sigmoid=True)).train()
    assert not any(module.training for module in teacher[0].modules())
    assert not any(parameter.requires_grad for parameter in teacher.parameters())


def test_teachers_are_loaded_from_checkpoints(tmp_path: Path) -> None:
    paths = [tmp_path / "a.pt", tmp_path / "b.pt"]
    for path, shift in zip(paths, (1.0, 2.0), strict=True):
        torch.save({"network": Shifted(shift).state_dict(), "epoch": torch.tensor(1)}, path)
    network = Shifted(0.0)
    loaded = load_teachers(network, paths, softmax=True, key="network")
    expected = TeacherEnsemble([Shifted(1.0), Shifted(2.0)], softmax=True)
    assert torch.equal(loaded(images()), expected(images()))
    assert float(network.shift.detach()[0, 0, 0]) == 0
    one = load_teachers(network, paths[0], softmax=True, key="network")
    assert torch.equal(one(images()), Shifted(1.0)(images()))


def test_a_checkpoint_of_another_network_is_refused(tmp_path: Path) -> None:
    torch.save(nn.Linear(1, 1).state_dict(), tmp_path / "linear.pt")
    with pytest.raises(ValueError, match=r"linear\.pt: expected the weights of Shifted, got others, e\.g\. 'bias'"):
        load_teachers(Shifted(0.0), tmp_path / "linear.pt", softmax=True)
    with pytest.raises(FileNotFoundError, match=r"none\.pt: expected a checkpoint, got no such file"):
        load_teachers(Shifted(0.0), [tmp_path / "none.pt"], softmax=True)
    with pytest.raises(ValueError, match="checkpoints: expected at least one file, got none"):
        load_teachers(Shifted(0.0), [], softmax=True)


@pytest.mark.parametrize("options", [{}, {"sigmoid": True, "softmax": True}])
def test_one_activation_is_needed(options: dict[str, bool]) -> None:
    with pytest.raises(ValueError, match="sigmoid, softmax: expected one of them True"):
        TeacherEnsemble([nn.Identity()], **options)
    with pytest.raises(ValueError, match="networks: expected at least one, got none"):
        TeacherEnsemble([], sigmoid=True)
