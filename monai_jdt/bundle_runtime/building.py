"""The components of a run when they are built: one line for the one that refuses its arguments."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.bundle.config_item import ConfigComponent

from monai_jdt.bundle_runtime.exits import chain_of, exit_with_error, innermost
from monai_jdt.bundle_runtime.workflow import started_run
from monai_jdt.validation import error_sentence


def build_or_exit(*names: str) -> None:
    """Build components of the run; whatever they refuse ends it with one line. For a config's `initialize`, after the seed is set.

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


def trial_problems(config: Mapping[str, Any], values: Mapping[str, Any]) -> Iterator[str]:
    """Build network and loss once, long before the data are read, and forget them: the run's own come after its seed.

    Args:
        config: the merged config.
        values: settings of the run by name.

    Yields:
        One line for each of them that cannot be built, or a network that does not take an image of the declared channels and size.
    """
    trial = ConfigParser(deepcopy(dict(config)))
    with torch.random.fork_rng(devices=()), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what there is to say about a component is said when the run builds it
        for name in ("network_def", "loss"):
            if name not in trial:
                continue
            try:
                built = trial.get_parsed_content(name)
            except Exception as error:
                yield _not_built(config, name, error)
                continue
            if not callable(built):
                yield error_sentence(name, "a component", repr(built), "give its _target_ and its arguments")
            elif name == "network_def" and isinstance(built, torch.nn.Module):
                yield from _network_problems(built, values)


def _network_problems(network: torch.nn.Module, values: Mapping[str, Any]) -> Iterator[str]:
    empty = [key for key, weights in network.named_parameters() if weights.numel() == 0]
    if empty:
        yield error_sentence("network_def", "a network with weights in every layer", f"none in {empty[0]}", "correct its arguments")
        return
    size: Sequence[int] | None = values.get("roi", values.get("size"))
    if size is None or "channels" not in values:
        return
    shape = (2, values["channels"], *size)
    try:
        # shapes alone: neither time nor memory
        network.to("meta")(torch.empty(shape, device="meta"))
    except Exception as error:
        if isinstance(error, NotImplementedError) or "meta" in str(error).lower():
            return  # the network reads values, which are not there
        got = f"{type(error).__name__}: {error}"
        yield error_sentence("network_def", f"a network that takes an input of shape {shape}", got, "correct its arguments")


def _not_built(config: Mapping[str, Any], name: str, error: Exception) -> str:
    """The line for a component that refuses its arguments: the innermost one, by the id that it has in the config."""
    cause = innermost(error)
    failed = [re.search(r"Failed to instantiate component '([^']+)' with keywords: (\S*)", str(step)) for step in chain_of(error)]
    got = f"{type(cause).__name__}: {' '.join(str(cause).split())}".rstrip(".")
    match = next((match for match in reversed(failed) if match is not None), None)
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
