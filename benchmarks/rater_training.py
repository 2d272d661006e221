"""What the studies on raters share: the losses that are compared, batches, and the training itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import torch
from monai.losses import DiceCELoss
from tqdm import tqdm

from monai_jdt.losses import JDTCELoss
from monai_jdt.transforms import SmoothLabel

#: Of AdamW at the first step. A cosine takes it to 0.
RATE = 2e-3
#: What a loss is called: the loss, and its label, of :func:`label_of`.
Losses: TypeAlias = dict[str, tuple[Callable[[], torch.nn.Module], str]]
LOSSES: Losses = {
    "CE, mean": (torch.nn.BCEWithLogitsLoss, "mean"),
    ".25 CE + .75 JDT, mean": (lambda: JDTCELoss(sigmoid=True, batch=True), "mean"),
    "MONAI DiceCE, majority": (lambda: DiceCELoss(sigmoid=True, batch=True), "majority"),
}


def majority_of(votes: torch.Tensor) -> torch.Tensor:
    """Return what more than half of the raters marked, bool `(N, 1, *S)`, of bool votes `(N, R, *S)`."""
    return votes.sum(1, keepdim=True) >= votes.shape[1] // 2 + 1


def label_of(votes: torch.Tensor, kind: str) -> torch.Tensor:
    """Return the label of bool votes `(N, R, *S)`: "majority", "mean", or "majority, smooth borders" (epsilon .5, k = 3)."""
    label = votes.float().mean(1, keepdim=True) if kind == "mean" else majority_of(votes).float()
    if kind != "majority, smooth borders":
        return label
    smooth = SmoothLabel("boundary", epsilon=0.5, k=3, softmax=False)
    return torch.stack([smooth(one).as_tensor() for one in label])


def drawn_batches(cases: int, batch: int) -> Iterator[torch.Tensor]:
    """Yield numbers of cases in batches without an end, in one random order after the other. The rest of an order is left out."""
    while True:
        yield from reversed(list(torch.randperm(cases).split(batch))[: max(cases // batch, 1)])


def train(
    network: torch.nn.Module,
    loss: torch.nn.Module,
    batches: Iterator[tuple[torch.Tensor, Any]],
    steps: int,
    what: str,
    watch: Callable[[int], None] = lambda step: None,
) -> None:
    """Train a network on batches of images and labels.

    Args:
        network: from images to logits. It is in evaluation mode at the end.
        loss: of logits and labels, or what it takes in place of labels, such as a teacher's target.
        batches: as many as `steps`, at least.
        steps: of the optimizer.
        what: the text before the progress bar.
        watch: called after each step with the number of steps so far.
    """
    optimizer = torch.optim.AdamW(network.parameters(), RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in tqdm(range(1, steps + 1), desc=what, disable=None):
        images, labels = next(batches)
        network.train()
        optimizer.zero_grad()
        loss(network(images), labels).backward()
        optimizer.step()
        schedule.step()
        watch(step)
    network.eval()
