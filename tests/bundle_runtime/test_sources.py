"""What a run needs at its start."""

from __future__ import annotations

import logging

import pytest
import torch

from monai_jdt.bundle_runtime import tell_long_protocol


def test_hours_on_a_cpu_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        for protocol, device in (("short", "cpu"), ("paper", "cuda:0"), ("paper", torch.device("cuda"))):
            tell_long_protocol(protocol, device, 150, [256, 256], 80)
        tell_long_protocol("paper", "cpu", 6, [128, 128], 80)
        assert caplog.messages == []
        tell_long_protocol("paper", torch.device("cpu"), 150, [256, 256], 80)
    (line,) = caplog.messages
    # 150 * 80 * 65,536 / 1e5 / 3600 = 2.2
    assert line.startswith(
        "protocol: expected minutes on a CPU, got 150 epochs of 80 images at 256 x 256, the paper's protocol: 2 hours"
    )
    assert line.endswith("Fix: --protocol short for a first look, fewer --epochs, or a GPU.")
