"""Samples of an ensemble: one for each checkpoint."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from typing import Any

import torch
from monai.inferers import Inferer
from torch.func import functional_call

from monai_jdt.inferers.checkpoint_weights import read_weights
from monai_jdt.inferers.module_modes import unwrapped
from monai_jdt.inferers.sample_inferer import SampleInferer, SampleKind
from monai_jdt.validation import check_sequence, error_sentence


class CheckpointSamples(SampleInferer):
    """One sample for each checkpoint of an ensemble: of several trainings, several epochs, or of one network per rater.

    The checkpoints' weights take turns in the one network that is given. Its own weights are not changed, and never more than one
    checkpoint is in memory. Each call reads every checkpoint again. :class:`monai.engines.EnsembleEvaluator` reads them once, but
    needs all networks in memory.

    Args:
        checkpoints: files, each a state dict as :class:`monai.handlers.CheckpointSaver` writes it. They are read with
            `weights_only=True`, so that they cannot run code.
        key: the entry that holds the state dict, where a file has several, such as network and optimizer.
        inferer: see :class:`SampleInferer`, as all that follow.
        sigmoid: see there.
        softmax: see there.
        decide: see there.
        kind: see there.
        merge_channels: see there.

    Raises:
        TypeError: an argument of the wrong type; at a call, a network that is no module.
        ValueError: no checkpoint; at a call, a file that holds no weights, or those of another network.

    References:
        Lakshminarayanan et al., Simple and scalable predictive uncertainty estimation using deep ensembles, NeurIPS 2017.

    Example:
        >>> import tempfile
        >>> network = torch.nn.Conv1d(1, 1, 1, bias=False)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     files = [os.path.join(folder, name) for name in ("a.pt", "b.pt")]
        ...     for file, weight in zip(files, (1.0, -1.0)):
        ...         torch.save({"weight": torch.full((1, 1, 1), weight)}, file)
        ...     samples = CheckpointSamples(files, sigmoid=True)(torch.tensor([[[2.0, -2.0]]]), network)
        >>> samples.int().tolist()
        [[[[1, 0]], [[0, 1]]]]
    """

    def __init__(
        self,
        checkpoints: Any,
        inferer: Inferer | None = None,
        *,
        key: str | None = None,
        sigmoid: bool = False,
        softmax: bool = False,
        decide: Callable[[torch.Tensor], torch.Tensor] | None = None,
        kind: str | SampleKind = "mask",
        merge_channels: bool = False,
    ) -> None:
        super().__init__(inferer, sigmoid=sigmoid, softmax=softmax, decide=decide, kind=kind, merge_channels=merge_channels)
        self.checkpoints = tuple(os.fspath(path) for path in check_sequence("checkpoints", checkpoints, "a list of files"))
        if not self.checkpoints:
            raise ValueError(error_sentence("checkpoints", "at least one file", "none"))
        self.key = key

    def outputs(self, inputs: torch.Tensor, network: Callable, *args: Any, **kwargs: Any) -> Generator[torch.Tensor]:
        """Yield one output per checkpoint.

        Args:
            inputs: images `(N, channels, *S)`.
            network: a module whose weights the checkpoints hold.
            args: further arguments of the network.
            kwargs: further arguments of the network.
        """
        module = unwrapped(network)
        for path in self.checkpoints:
            state = read_weights(path, module, self.key)

            def with_weights(*inner: Any, weights: Any = state, **named: Any) -> Any:
                return functional_call(module, weights, inner, named, tie_weights=False)

            yield self.inferer(inputs, with_weights, *args, **kwargs)
            del state, with_weights  # before the next one is read
