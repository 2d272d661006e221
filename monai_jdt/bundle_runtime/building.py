"""Build the components of a run. One that refuses its arguments ends the run with one line that names it."""

from __future__ import annotations

import inspect
import logging
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.bundle.config_item import ConfigComponent
from torch.nn.parameter import is_lazy

from monai_jdt.bundle_runtime.exits import chain_of, exit_with_error, innermost
from monai_jdt.bundle_runtime.values import shown
from monai_jdt.bundle_runtime.workflow import started_run
from monai_jdt.validation import error_sentence

logger = logging.getLogger(__name__)

# Losses of the overlays, none of which takes a list of heads.
_OF_ONE_OUTPUT = ("JDTCELoss", "DistillationLoss", "LovaszSoftmaxLoss", "DiceLoss")


def build_or_exit(*names: str) -> None:
    """Build components of the run. One that cannot be built ends the run with one line.

    For a config's `initialize`, after the seed is set.

    Args:
        names: ids, e.g. `train#trainer`.

    Raises:
        SystemExit: with code 1, after the line.
    """
    run = started_run()
    if run is None:
        return
    for name in names:
        try:
            run.parser.get_parsed_content(name)
        except Exception as error:
            exit_with_error(_not_built(run.config, name, error))


def trial_problems(parser: ConfigParser, values: Mapping[str, Any], names: Sequence[str], *, training: bool) -> Iterator[str]:
    """Build components long before the run does, and forget them: the run's own are made after its seed is set.

    Args:
        parser: holds the merged config; nothing of it is resolved.
        values: settings of the run by name.
        names: ids of the components; `network_def` is also called with the shape of a batch.
        training: whether the network is called as in training.

    Yields:
        One line for each of them that cannot be built, or a network that does not take an image of the declared channels and size.
    """
    config = parser.get()
    trial = ConfigParser(deepcopy(config))
    trial.locator = parser.locator  # its table of short names takes longer than the trial
    with torch.random.fork_rng(devices=()), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the run gives the same warnings when it builds them
        for name in names:
            try:
                built = trial.get_parsed_content(name)
            except Exception as error:
                yield _not_built(config, name, error)
                continue
            if not callable(built):
                yield error_sentence(name, "a component", shown(built), "give its _target_ and its arguments")
            elif name == "network_def" and isinstance(built, torch.nn.Module):
                yield from _network_problems(built.train(training), values)


def _network_problems(network: torch.nn.Module, values: Mapping[str, Any]) -> Iterator[str]:
    """Call the network with shapes alone, which costs neither time nor memory. Where that tells nothing, say so in the log."""
    parameters = dict(network.named_parameters())
    if any(is_lazy(weights) for weights in parameters.values()):
        logger.info("network_def is not tried on shapes: it has lazy layers")
        return
    empty = [key for key, weights in parameters.items() if weights.numel() == 0]
    if empty:
        yield error_sentence("network_def", "a network with weights in every layer", f"none in {empty[0]}", "correct its arguments")
        return
    size: Sequence[int] | None = values.get("roi", values.get("size"))
    if size is None or "channels" not in values:
        return
    needed = _needed_arguments(network)
    if needed != 1:
        logger.info("network_def is not tried on shapes: its forward needs %d arguments", needed)
        return
    shape = (2, values["channels"], *size)
    try:
        output = network.to("meta")(torch.empty(shape, device="meta"))
    except Exception as error:
        got = f"{type(error).__name__}: {error}"
        if _is_about_shapes(error):
            yield error_sentence("network_def", f"a network that takes an input of shape {shape}", got, "correct its arguments")
        else:
            logger.info("network_def is not tried on shapes: %s", " ".join(got.split()))
        return
    heads = _heads(output, len(shape))
    if network.training:
        yield from _problems_of_heads(type(network).__name__, len(heads), values)
    expected = values.get("out_channels", values.get("trained_settings#out_channels"))
    first = heads[0] if heads else output
    if isinstance(first, torch.Tensor) and isinstance(expected, int) and first.ndim > 1 and first.shape[1] != expected:
        fix = "correct its out_channels; they follow from regions"
        yield error_sentence("network_def", f"{expected} output channels", str(first.shape[1]), fix)


def _heads(output: Any, axes: int) -> list[Any]:
    """Return the outputs of a network for deep supervision, the finest first: a list of them, or a stack as DynUNet's."""
    if isinstance(output, torch.Tensor) and output.ndim == axes + 1:
        return list(output.unbind(1))
    return list(output) if isinstance(output, (list, tuple)) else []


def _problems_of_heads(network: str, heads: int, values: Mapping[str, Any]) -> Iterator[str]:
    """Say where a loss of heads has a network without, or a network has heads that the loss does not take."""
    of_heads = str(values.get("train#trainer#loss_function#_target_")).endswith("SoftDeepSupervisionLoss")
    if of_heads and heads < 2:
        expected = "a network that predicts at several resolutions, since the loss is that of deep supervision"
        yield error_sentence("network_def", expected, network, "lay configs/overlays/segresnet_ds.yaml over train.yaml, too")
    # an inferer of the user's may choose one of the heads
    is_simple = values.get("train#inferer#_target_") == "monai.inferers.SimpleInferer"
    if heads and not of_heads and is_simple and str(values.get("loss#_target_")).rpartition(".")[2] in _OF_ONE_OUTPUT:
        fix = "lay configs/overlays/deep_supervision.yaml over train.yaml, too"
        yield error_sentence("network_def", "a network of one output, since the loss takes one", f"{heads} of {network}", fix)


def _needed_arguments(network: torch.nn.Module) -> int:
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    try:
        arguments = list(inspect.signature(network.forward).parameters.values())
    except (TypeError, ValueError):  # a function without a signature, such as a compiled one
        return 1
    count = sum(entry.kind in kinds and entry.default is inspect.Parameter.empty for entry in arguments)
    takes_any = any(entry.kind is inspect.Parameter.VAR_POSITIONAL for entry in arguments)
    return 1 if takes_any and count == 0 else count


def _is_about_shapes(error: Exception) -> bool:
    """Return whether real tensors would raise the same error. Others are of networks that read values, or ask for a device or dtype."""
    words = re.findall(r"[a-z]+", str(error).lower())
    return type(error) in (RuntimeError, ValueError, IndexError) and not {"meta", "cuda", "cpu", "gpu", "device", "dtype"} & set(words)


def _not_built(config: Mapping[str, Any], name: str, error: Exception) -> str:
    """Return the line for the innermost component that cannot be built, named by its id in the config."""
    cause = innermost(error)
    failed = [re.search(r"Failed to instantiate component '([^']+)' with keywords: (\S*)", str(step)) for step in chain_of(error)]
    got = f"{type(cause).__name__}: {' '.join(str(cause).split())}".rstrip(".")
    match = next((match for match in reversed(failed) if match is not None), None)
    own = next((text for text in map(str, chain_of(error)) if re.match(r"[^\n]{1,300}?: expected .+, got .+\. Fix: ", text)), None)
    if match is None and own is not None:
        return f"{name.replace('::', '#')}: {own}"  # of a function of this package
    if match is None:
        return error_sentence(name.replace("::", "#"), "an item that can be computed", got, "correct what it is made of")
    target, keywords = match[1], set(match[2].split(","))
    nodes = [(place, node) for place, node in components_in(config) if node["_target_"] == target]
    exact = [(place, node) for place, node in nodes if set(node) - ConfigComponent.non_arg_keys == keywords] or nodes
    place = exact[0][0] if len(exact) == 1 else name.replace("::", "#")
    return error_sentence(f"{place} ({target})", "arguments that it can be built with", got, "correct them")


def components_in(content: Any, name: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Walk through the nodes of a config that have a `_target_`.

    Args:
        content: the config, or a part of it.
        name: the id of that part.

    Yields:
        The id and the node.
    """
    if isinstance(content, (Mapping, list)):
        if isinstance(content, Mapping) and isinstance(content.get("_target_"), str):
            yield name, content
        for key, part in content.items() if isinstance(content, Mapping) else enumerate(content):
            yield from components_in(part, f"{name}#{key}" if name else str(key))
