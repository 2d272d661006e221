"""The modes of a network's modules while samples are made, and the network behind wrappers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from monai_jdt.validation import error_sentence


@contextmanager
def module_modes(network: Any, trains: Callable[[nn.Module], bool] = lambda module: False) -> Iterator[None]:
    """Put the modules that `trains` names into training mode and all others into evaluation mode, until the block ends.

    At the end, and after an exception, each module gets back the mode that it had. `network.train()` would not do that: it sets the
    modules that a user had frozen, too.

    Args:
        network: a module; anything else, such as a function, has no modes and is left alone.
        trains: whether a module is in training mode in the block.
    """
    modules = list(network.modules()) if isinstance(network, nn.Module) else []
    before = [module.training for module in modules]
    try:
        for module in modules:
            module.training = trains(module)
        yield
    finally:
        for module, training in zip(modules, before, strict=True):
            module.training = training


def unwrapped(network: Any) -> nn.Module:
    """Return the module behind DistributedDataParallel, DataParallel and torch.compile.

    Args:
        network: a module.

    Raises:
        TypeError: something else.
    """
    if not isinstance(network, nn.Module):
        fix = "pass the network itself, not a function that calls it"
        raise TypeError(error_sentence("network", "a torch.nn.Module", type(network).__name__, fix))
    while isinstance(network, DataParallel | DistributedDataParallel) or hasattr(network, "_orig_mod"):
        network = network.module if isinstance(network, DataParallel | DistributedDataParallel) else network._orig_mod
    return network
