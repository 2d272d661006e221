"""A teacher that is the moving average of its student."""

from __future__ import annotations

from typing import TypeAlias

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.hooks import RemovableHandle

from monai_jdt.inferers.module_modes import unwrapped
from monai_jdt.validation import check_bool, check_number, error_sentence

_Tensors: TypeAlias = tuple[torch.Tensor, ...] | list[torch.Tensor]


class MeanTeacher(nn.Module):
    r"""The exponential moving average of a student's weights: after each step :math:`\theta' \leftarrow a \theta' + (1 - a) \theta`.

    Buffers, such as the statistics of batch normalisation, are the student's. :class:`torch.optim.swa_utils.AveragedModel` does the
    averaging. The teacher is in evaluation mode, and its weights ask for no gradient. Its state dict holds the number of updates, so
    that a training that is resumed goes on with the same teacher. All ranks of DistributedDataParallel have one student, and so one
    teacher.

    Args:
        network: the student, which is copied.
        decay: a, in [0, 1).
        warm_up: use :math:`\min(a, (1 + n) / (10 + n))` at update n, so that the first, untrained weights are soon forgotten.

    Raises:
        TypeError: `network` is no module.
        ValueError: `decay` outside [0, 1).

    References:
        Tarvainen and Valpola, Mean teachers are better role models, NeurIPS 2017, arXiv:1703.01780.

    Example:
        >>> student = nn.Conv1d(1, 1, 1, bias=False)
        >>> _ = nn.init.zeros_(student.weight)
        >>> teacher = MeanTeacher(student, decay=0.75, warm_up=False)
        >>> _ = nn.init.ones_(student.weight)
        >>> teacher.update(student)
        >>> float(teacher(torch.ones(1, 1, 1)))
        0.25
    """

    def __init__(self, network: nn.Module, decay: float = 0.99, warm_up: bool = True) -> None:
        super().__init__()
        self.decay = check_number("decay", decay, 0, high=1)
        if self.decay == 1:
            raise ValueError(error_sentence("decay", "a number >= 0 and below 1", "1", "decay=0.99; with 1 the teacher never learns"))
        self.warm_up = check_bool("warm_up", warm_up)
        self.average = AveragedModel(unwrapped(network), multi_avg_fn=self._add)
        # the copy counts as the first of the averaged networks
        self.average.n_averaged.fill_(1)
        self.average.requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> MeanTeacher:
        """Stay in evaluation mode."""
        return super().train(False)

    def update(self, network: nn.Module) -> None:
        """Add the student's weights, after a step of its optimizer.

        Args:
            network: the student, in a wrapper such as DistributedDataParallel or not.
        """
        self.average.update_parameters(unwrapped(network))

    def follow(self, network: nn.Module, optimizer: torch.optim.Optimizer) -> RemovableHandle:
        """Update after every step of an optimizer from now on.

        With gradient accumulation an optimizer does not step after every batch, and a gradient scaler leaves out steps whose gradient
        is not finite. Neither moves the teacher.

        Args:
            network: the student.
            optimizer: that of the student.

        Returns:
            A handle whose `remove()` ends it.
        """

        def update(stepped: torch.optim.Optimizer, *_: object) -> None:
            # a fused optimizer is called all the same, and leaves the step out by itself
            found_inf = getattr(stepped, "found_inf", None)
            if found_inf is None or not bool(found_inf):
                self.update(network)

        return optimizer.register_step_post_hook(update)

    @property
    def network(self) -> nn.Module:
        """The averaged network, whose state dict has the names of the student's."""
        return self.average.module

    def forward(self, *args: torch.Tensor, **kwargs: torch.Tensor) -> torch.Tensor:
        """Return what the network returns."""
        return self.average(*args, **kwargs)

    def _add(self, averaged: _Tensors, current: _Tensors, count: torch.Tensor | int) -> None:
        """Move the averaged weights, all of one dtype and device, towards the current ones."""
        updates = int(count)
        decay = min(self.decay, updates / (updates + 9)) if self.warm_up else self.decay
        get_ema_multi_avg_fn(decay)(averaged, current, count)
