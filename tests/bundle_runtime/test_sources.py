"""What a run needs at its start."""

from __future__ import annotations

import logging

import pytest
import torch

from monai_jdt.bundle_runtime import tell_long_protocol


def test_hours_on_a_cpu_are_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        for protocol, device in (("short", "cpu"), ("paper", "cuda:0"), ("paper", torch.device("cuda"))):
            tell_long_protocol(protocol, device, 150, [256, 256])
        assert caplog.messages == []
        tell_long_protocol("paper", torch.device("cpu"), 150, [256, 256])
    (line,) = caplog.messages
    assert line.startswith("protocol: expected minutes on a CPU, got 150 epochs of the paper's protocol at 256 x 256 on a CPU")
    assert line.endswith("Fix: --protocol short for a first look, or a GPU.")
