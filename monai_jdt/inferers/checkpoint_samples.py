"""Samples of an ensemble: one for each checkpoint."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Generator, Mapping
from typing import Any

import torch
from monai.inferers import Inferer
from torch import nn
from torch.func import functional_call

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
        >>> network = nn.Conv1d(1, 1, 1, bias=False)
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
            state = self._state_of(path, module)

            def with_weights(*inner: Any, weights: Any = state, **named: Any) -> Any:
                return functional_call(module, weights, inner, named, tie_weights=False)

            yield self.inferer(inputs, with_weights, *args, **kwargs)
            del state, with_weights  # before the next one is read

    def _state_of(self, path: str, module: nn.Module) -> Mapping[str, torch.Tensor]:
        """Return a checkpoint's weights on the device of the network."""
        own = module.state_dict()
        device = next(iter(own.values())).device if own else torch.device("cpu")
        try:
            held = torch.load(path, map_location=device, weights_only=True)
        except FileNotFoundError as error:
            raise FileNotFoundError(error_sentence(path, "a checkpoint", "no such file")) from error
        except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
            expected = "a file that torch.load reads with weights_only=True"
            raise ValueError(error_sentence(path, expected, str(error).partition(".")[0], "save network.state_dict()")) from error
        if self.key is not None:
            if not isinstance(held, Mapping) or self.key not in held:
                got = str(list(held)) if isinstance(held, Mapping) else type(held).__name__
                raise ValueError(error_sentence(path, f"an entry {self.key!r}", got, "name another `key`"))
            held = held[self.key]
        if not isinstance(held, Mapping) or not all(isinstance(value, torch.Tensor) for value in held.values()):
            got = f"entries {list(held)[:5]}" if isinstance(held, Mapping) else type(held).__name__
            raise ValueError(error_sentence(path, "weights by name", got, "name the entry that holds them as `key`"))
        wrong = sorted(set(own) ^ set(held)) or [name for name, value in held.items() if value.shape != own[name].shape]
        if wrong:
            expected = f"the weights of {type(module).__name__}"
            raise ValueError(error_sentence(path, expected, f"others, e.g. {wrong[0]!r}", "build the network that was trained"))
        return held
