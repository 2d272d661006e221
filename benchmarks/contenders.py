"""The losses that are compared: ours on each kernel, MONAI's, and the ways of nnU-Net and of the papers' code as plain formulas."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass

import torch
from monai.losses import DiceCELoss, DiceLoss
from torch.nn import functional as F

from monai_jdt.kernels.registry import KERNELS
from monai_jdt.losses import JDTCELoss

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

OURS = ("eager", *(kernel.value for kernel in KERNELS))


@dataclass(frozen=True)
class Case:
    """What a loss is given: softmax over the channels, float32 logits.

    Args:
        form: "soft", "index" or "votes".
        channels: C.
        side: of the cube of voxels.
        batch: N.
        raters: R of votes.
    """

    form: str
    channels: int
    side: int
    batch: int
    raters: int = 3

    @property
    def voxels(self) -> int:
        """In the batch."""
        return self.batch * self.side**3

    @property
    def logits_bytes(self) -> int:
        """Of the logits."""
        return 4 * self.channels * self.voxels

    @property
    def label_bytes(self) -> int:
        """Of the label, as a training loop would hold it."""
        return {"soft": self.logits_bytes, "index": self.voxels * 8, "votes": self.voxels * self.raters}[self.form]

    @property
    def least_bytes(self) -> int:
        """What must move: logits and label read forward and backward, the gradient written."""
        return 3 * self.logits_bytes + 2 * self.label_bytes

    def tensors(self, device: str = "cpu") -> tuple[torch.Tensor, torch.Tensor]:
        """Logits that ask for a gradient, and a label: float32 probabilities, int64 indices, or uint8 votes."""
        source = torch.Generator().manual_seed(0)
        shape = (self.batch, self.channels, *[self.side] * 3)
        logits = torch.randn(shape, generator=source).to(device).requires_grad_()
        if self.form == "soft":
            label = torch.randn(shape, generator=source).softmax(1)
        elif self.form == "index":
            label = torch.randint(self.channels, (self.batch, 1, *shape[2:]), generator=source)
        else:
            label = torch.randint(self.channels, (self.batch, self.raters, *shape[2:]), generator=source, dtype=torch.uint8)
        return logits, label.to(device)


def contenders(case: Case) -> dict[str, Loss]:
    """The losses that can take the case, by name, ours first."""
    ways: dict[str, Loss] = {name: _ours(case, name) for name in OURS}
    if shutil.which("c++") or shutil.which("g++") or shutil.which("clang++"):
        ways["eager, compiled"] = torch.compile(_ours(case, "eager"), dynamic=False)
    to_onehot = case.form == "index"
    ways["MONAI DiceCELoss"] = _given_dense(case, DiceCELoss(softmax=True, batch=True, to_onehot_y=to_onehot))
    ways["MONAI DiceLoss"] = _given_dense(case, DiceLoss(softmax=True, batch=True, to_onehot_y=to_onehot, soft_label=not to_onehot))
    ways["the papers' way"] = lambda logits, label: _norm_form(logits, _dense(case, logits, label))
    if case.form == "index":
        ways["nnU-Net's way"] = hard_dice_and_ce
    return ways


def _ours(case: Case, backend: str) -> JDTCELoss:
    return JDTCELoss(softmax=True, batch=True, to_onehot_y=case.form == "index", votes=case.form == "votes", backend=backend)


def _dense(case: Case, logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """What users of other losses do with a label first."""
    if case.form == "soft":
        return label
    channels = logits.shape[1]
    if case.form == "index":
        return torch.zeros_like(logits).scatter_(1, label, 1.0)
    return torch.stack([(label == c).float().mean(1) for c in range(channels)], 1)


def _given_dense(case: Case, loss: Loss) -> Loss:
    if case.form != "votes":
        return loss
    return lambda logits, votes: loss(logits, _dense(case, logits, votes))


def _norm_form(logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """0.75 Jaccard + 0.25 cross-entropy by norms (arXiv:2302.05666): tp = (|p| + |t| - |p - t|) / 2."""
    p = torch.softmax(logits, 1)
    space = [0, *range(2, logits.ndim)]
    total = p.sum(space) + label.sum(space)
    difference = (p - label).abs().sum(space)
    tp = (total - difference) / 2
    jaccard = 1 - (tp + 1e-5) / (tp + difference + 1e-5)
    return 0.75 * jaccard.mean() + 0.25 * F.cross_entropy(logits, label)


def hard_dice_and_ce(logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """Batch Dice with a boolean one-hot, without background, and cross-entropy, as nnU-Net writes it (hard labels only)."""
    p = torch.softmax(logits, 1)[:, 1:]
    onehot = torch.zeros(logits.shape, dtype=torch.bool, device=logits.device).scatter_(1, label, True)[:, 1:]
    space = [0, *range(2, logits.ndim)]
    both, all_p, all_t = (p * onehot).sum(space), p.sum(space), onehot.sum(space)
    dice = (2 * both + 1e-5) / (all_p + all_t + 1e-5).clip(1e-8)
    return F.cross_entropy(logits, label[:, 0]) - dice.mean()
