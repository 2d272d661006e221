"""The weights of a network in a checkpoint, read so that they cannot run code, and compared with the network."""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping

import torch
from torch import nn

from monai_jdt.validation import error_sentence


def read_weights(path: str | os.PathLike[str], module: nn.Module, key: str | None = None) -> Mapping[str, torch.Tensor]:
    """Return a checkpoint's weights on the device of a network.

    Args:
        path: the file, a state dict as :class:`monai.handlers.CheckpointSaver` writes it. It is read with `weights_only=True`.
        module: the network, which is not changed.
        key: the entry that holds the state dict, where a file has several, such as network and optimizer.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file that holds no weights, or those of another network.
    """
    path = os.fspath(path)
    own = module.state_dict()
    device = next(iter(own.values())).device if own else torch.device("cpu")
    try:
        held = torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError as error:
        raise FileNotFoundError(error_sentence(path, "a checkpoint", "no such file")) from error
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        expected = "a file that torch.load reads with weights_only=True"
        raise ValueError(error_sentence(path, expected, str(error).partition(".")[0], "save network.state_dict()")) from error
    if key is not None:
        if not isinstance(held, Mapping) or key not in held:
            got = str(list(held)) if isinstance(held, Mapping) else type(held).__name__
            raise ValueError(error_sentence(path, f"an entry {key!r}", got, "name another `key`"))
        held = held[key]
    if not isinstance(held, Mapping) or not all(isinstance(value, torch.Tensor) for value in held.values()):
        got = f"entries {list(held)[:5]}" if isinstance(held, Mapping) else type(held).__name__
        raise ValueError(error_sentence(path, "weights by name", got, "name the entry that holds them as `key`"))
    wrong = sorted(set(own) ^ set(held)) or [name for name, value in held.items() if value.shape != own[name].shape]
    if wrong:
        expected = f"the weights of {type(module).__name__}"
        raise ValueError(error_sentence(path, expected, f"others, e.g. {wrong[0]!r}", "build the network that was trained"))
    return held
