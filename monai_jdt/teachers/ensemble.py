"""A teacher of one or several trained networks."""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

from monai_jdt.inferers.checkpoint_weights import read_weights
from monai_jdt.inferers.module_modes import unwrapped
from monai_jdt.validation import check_sequence, error_sentence


class TeacherEnsemble(nn.Module):
    r"""The logits of the mean probability of several networks. They are never trained.

    With softmax the logits of class c are :math:`\log \frac1M \sum_m p_{mc}`, with sigmoid
    :math:`\log \frac1M \sum_m p_m - \log \frac1M \sum_m (1 - p_m)`. Both are computed from logarithms, so that probabilities near 0
    and 1 keep their digits. With one network the logits are that network's own.

    Args:
        networks: at least one; they stay in evaluation mode, whatever `train()` is called on what holds them.
        sigmoid: their outputs are logits of a sigmoid.
        softmax: their outputs are logits of a softmax over the channels. One of sigmoid and softmax is needed.

    Raises:
        TypeError: a network that is no module.
        ValueError: no network; both activations, or none.

    References:
        Wang et al., arXiv:2303.16296, distil an ensemble with JDT losses. Hinton et al., arXiv:1503.02531.

    Example:
        >>> sure, unsure = nn.Identity(), nn.Hardtanh(0, 0.001)
        >>> logits = torch.tensor([[[4.0, -4.0]]])
        >>> torch.sigmoid(TeacherEnsemble([sure, unsure], sigmoid=True)(logits)).mul(100).round().tolist()
        [[[74.0, 26.0]]]
    """

    def __init__(self, networks: Sequence[nn.Module], sigmoid: bool = False, softmax: bool = False) -> None:
        super().__init__()
        if bool(sigmoid) == bool(softmax):
            got = "both" if sigmoid else "none"
            raise ValueError(error_sentence("sigmoid, softmax", "one of them True", got, "name the activation of the networks"))
        members = [unwrapped(network) for network in networks]
        if not members:
            raise ValueError(error_sentence("networks", "at least one", "none"))
        self.softmax = bool(softmax)
        self.networks = nn.ModuleList(members)
        self.networks.requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> TeacherEnsemble:
        """Stay in evaluation mode."""
        return super().train(False)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return logits `(N, C, *S)`, in float32 or wider.

        Args:
            image: `(N, channels, *S)`.
        """
        outputs = [network(image) for network in self.networks]
        logits = torch.stack([output.to(torch.promote_types(output.dtype, torch.float32)) for output in outputs])
        if len(outputs) == 1:
            return logits[0]
        if self.softmax:
            return torch.logsumexp(F.log_softmax(logits, 2), 0) - math.log(len(outputs))
        return torch.logsumexp(F.logsigmoid(logits), 0) - torch.logsumexp(F.logsigmoid(-logits), 0)


def load_teachers(
    network: nn.Module,
    checkpoints: Sequence[str | os.PathLike[str]] | str | os.PathLike[str],
    *,
    sigmoid: bool = False,
    softmax: bool = False,
    key: str | None = None,
) -> TeacherEnsemble:
    """Return a teacher of trained networks, one for each checkpoint.

    Args:
        network: the teachers' architecture. It is copied, and not changed. The student may have another one.
        checkpoints: a file or several, each a state dict as :class:`monai.handlers.CheckpointSaver` writes it, read with
            `weights_only=True`.
        sigmoid: see :class:`TeacherEnsemble`.
        softmax: see there.
        key: the entry that holds the state dict, where a file has several, such as network and optimizer.

    Raises:
        FileNotFoundError: a checkpoint that is not there.
        TypeError: `network` is no module.
        ValueError: no checkpoint; a file that holds no weights, or those of another network.
    """
    one = isinstance(checkpoints, str | os.PathLike)
    paths = (checkpoints,) if one else check_sequence("checkpoints", checkpoints, "a file or a list of files")
    if not paths:
        raise ValueError(error_sentence("checkpoints", "at least one file", "none"))
    module = unwrapped(network)
    members = []
    for path in paths:
        member = copy.deepcopy(module)
        member.load_state_dict(read_weights(path, module, key))
        members.append(member)
    return TeacherEnsemble(members, sigmoid=sigmoid, softmax=softmax)
