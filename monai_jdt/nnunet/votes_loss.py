"""The loss of nnU-Net's training on a segmentation whose channels are the fused label and the raters."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from monai_jdt.losses import JDTLoss, SoftDeepSupervisionLoss
from monai_jdt.nnunet.raw_dataset import MISSING


class VotesLoss(torch.nn.Module):
    """A loss of votes, called with the target of nnU-Net's data loader.

    Args:
        loss: of votes.
        head_weights: one for each head of deep supervision; None: the network has one output.
    """

    def __init__(self, loss: JDTLoss, head_weights: Sequence[float] | None = None) -> None:
        super().__init__()
        self.loss = loss
        # a head of weight 0 is not looked at, which saves its pass
        self.heads = None if head_weights is None else [n for n, weight in enumerate(head_weights) if weight > 0]
        kept = None if head_weights is None else [float(weight) for weight in head_weights if weight > 0]
        self.deep = None if kept is None else SoftDeepSupervisionLoss(loss, weights=kept)

    def forward(self, output: torch.Tensor | Sequence[torch.Tensor], target: torch.Tensor) -> torch.Tensor:
        """Return the loss.

        Args:
            output: logits, or one tensor for each head, the largest first.
            target: `(N, 1 + R, *S)`, the fused label, which is not looked at, and the label values of the raters. A channel with
                :data:`monai_jdt.nnunet.raw_dataset.MISSING` anywhere is a rater without a map of that case: augmentation may have put
                background at its corners.
        """
        votes = target[:, 1:]
        present = (votes != MISSING).flatten(2).all(-1).to(torch.float32)
        if self.deep is None or self.heads is None:
            return self.loss(output, votes, rater_weights=present)
        return self.deep([output[number] for number in self.heads], votes, rater_weights=present)
