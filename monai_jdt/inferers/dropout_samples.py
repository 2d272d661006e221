"""Samples by dropout that stays on: MC dropout."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from monai.inferers import Inferer
from torch import nn
from torch.nn.modules.dropout import _DropoutNd

from monai_jdt.inferers.module_modes import module_modes, unwrapped
from monai_jdt.inferers.sample_inferer import SampleInferer, SampleKind
from monai_jdt.validation import check_int, error_sentence


class DropoutSamples(SampleInferer):
    """Samples of a network whose dropout layers drop, as in training, while all other layers, batch norm among them, evaluate.

    After a call, and after an exception, every layer is in the mode that it had. Layers are dropout layers if they are torch's
    (`torch.nn.Dropout`, `Dropout3d`, `AlphaDropout` and so on) and their p is above 0. Dropout that a layer calls as a function stays
    off, and MONAI's DropPath drops whole branches and stays off too.

    Args:
        samples: M >= 1.
        seed: where torch's random numbers start at each call, so that a call with the same images gives the same samples. The state
            of torch's generators is the same after the call as before. A sample depends on its place in the batch. None: random
            numbers go on from where they are.
        inferer: see :class:`SampleInferer`, as all that follow.
        sigmoid: see there.
        softmax: see there.
        decide: see there.
        kind: see there.
        merge_channels: see there.

    Raises:
        TypeError: an argument of the wrong type; at a call, a network that is no module.
        ValueError: `samples` < 1; at a call, a network without a dropout layer that drops.

    References:
        Gal and Ghahramani, Dropout as a Bayesian approximation, ICML 2016.

    Example:
        >>> network = nn.Sequential(nn.Dropout(0.5), nn.Threshold(0.1, 0.0)).eval()
        >>> samples = DropoutSamples(4)(torch.ones(1, 1, 1000), network)
        >>> samples.shape, bool((samples[0, 0] != samples[0, 1]).any()), network[0].training
        (torch.Size([1, 4, 1, 1000]), True, False)
    """

    def __init__(
        self,
        samples: int,
        inferer: Inferer | None = None,
        *,
        seed: int | None = 0,
        sigmoid: bool = False,
        softmax: bool = False,
        decide: Callable[[torch.Tensor], torch.Tensor] | None = None,
        kind: str | SampleKind = "mask",
        merge_channels: bool = False,
    ) -> None:
        super().__init__(inferer, sigmoid=sigmoid, softmax=softmax, decide=decide, kind=kind, merge_channels=merge_channels)
        if check_int("samples", samples) < 1:
            raise ValueError(error_sentence("samples", "a whole number >= 1", str(samples)))
        self.samples = samples
        self.seed = None if seed is None else check_int("seed", seed)

    def outputs(self, inputs: torch.Tensor, network: Callable, *args: Any, **kwargs: Any) -> Generator[torch.Tensor]:
        """Yield outputs with dropout.

        Args:
            inputs: images `(N, channels, *S)`.
            network: a module with dropout layers.
            args: further arguments of the network.
            kwargs: further arguments of the network.
        """
        module = unwrapped(network)
        if not any(drops(layer) for layer in module.modules()):
            fix = "train with dropout, or make samples by CheckpointSamples or DrawnSamples"
            raise ValueError(error_sentence("network", "at least one dropout layer with p > 0", type(module).__name__, fix))
        with module_modes(module, drops), random_numbers_from(self.seed, inputs.device):
            for _ in range(self.samples):
                yield self.inferer(inputs, network, *args, **kwargs)


def drops(layer: nn.Module) -> bool:
    """Return whether a layer is a dropout layer of torch's that drops something in training mode."""
    return isinstance(layer, _DropoutNd) and layer.p > 0


@contextmanager
def random_numbers_from(seed: int | None, device: torch.device) -> Iterator[None]:
    """Start torch's random numbers of the CPU and of a device at a seed, and put the generators back at the end.

    Args:
        seed: None: nothing is started or put back.
        device: where the network runs.
    """
    if seed is None:
        yield
        return
    if device.type == "cpu":
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            yield
        return
    index = device.index if device.index is not None else torch.get_device_module(device).current_device()
    with torch.random.fork_rng(devices=[index], device_type=device.type):
        torch.default_generator.manual_seed(seed)
        with torch.device(device):
            torch.get_device_module(device).manual_seed(seed)
        yield
