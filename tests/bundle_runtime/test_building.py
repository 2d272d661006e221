"""A network is tried on shapes before the data are read: a misfit is one line, and what cannot be told is no refusal."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser

from monai_jdt.bundle_runtime.building import trial_problems

VALUES = {"channels": 1, "size": [8, 8]}


class TwoInputs(torch.nn.Module):
    def forward(self, image: torch.Tensor, age: torch.Tensor) -> torch.Tensor:
        return image + age


class OnlyOnGPU(torch.nn.Conv2d):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        assert image.is_cuda
        return super().forward(image)


class ReadsValues(torch.nn.Conv2d):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return super().forward(image) if image.sum() > 0 else image


class AsksForTheDevice(torch.nn.Conv2d):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        if image.device.type != "cuda":
            raise RuntimeError("expected an input on a CUDA device")
        return super().forward(image)


class WithBatchNorm(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = torch.nn.BatchNorm1d(1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.norm(image.flatten(1).mean(1, keepdim=True)[:1])


def problems(target: str, training: bool = True, **arguments: Any) -> list[str]:
    network = {"_target_": target if "." in target else f"{__name__}.{target}", **arguments}
    return list(trial_problems(ConfigParser({"network_def": network}), VALUES, ["network_def"], training=training))


@pytest.mark.parametrize(
    ("target", "arguments"),
    [
        ("TwoInputs", {}),
        *[(name, {"in_channels": 1, "out_channels": 1, "kernel_size": 1}) for name in ("OnlyOnGPU", "ReadsValues", "AsksForTheDevice")],
        ("torch.nn.LazyConv2d", {"out_channels": 2, "kernel_size": 3}),
    ],
)
def test_what_shapes_cannot_tell_is_left_to_the_run(target: str, arguments: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert problems(target, **arguments) == []
    assert "network_def is not tried on shapes: " in caplog.text


def test_a_misfit_is_one_line() -> None:
    (line,) = problems("torch.nn.Conv2d", in_channels=3, out_channels=1, kernel_size=1)
    assert line.startswith("network_def: expected a network that takes an input of shape (2, 1, 8, 8), got RuntimeError")


def test_a_prediction_is_tried_in_evaluation_mode() -> None:
    """In training a normalisation over one value is an error."""
    assert problems("WithBatchNorm", training=False) == []
    assert "more than 1 value" in problems("WithBatchNorm", training=True)[0]
