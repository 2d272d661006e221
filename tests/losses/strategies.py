"""Random configurations of the losses: arguments x shapes x dtypes x label forms x masks x memory layouts.

`configurations()` draws what the documentation allows; `mistaken_configurations()` adds one contradiction. Numbers come from a
seeded generator, so that hypothesis shrinks the structure and not every voxel.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st

import monai_jdt.losses as losses
from tests.oracles import norm_form

OVERLAP = ("JDTLoss", "JaccardMetricLoss", "DiceSemimetricLoss", "CompatibleTverskyLoss")
COMPOUND = ("JDTCELoss", "JDTFocalLoss")
FREE = ("JDTLoss", "CompatibleTverskyLoss", *COMPOUND)  # alpha and beta are arguments

FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
LAYOUTS = ("contiguous", "channels_last", "reversed_strides", "cropped")


@dataclass
class Configuration:
    """A loss and what it is called with."""

    loss: str
    arguments: dict[str, Any]
    input: torch.Tensor = field(repr=False)
    target: torch.Tensor = field(repr=False)
    mask: torch.Tensor | None = field(repr=False)
    rater_weights: torch.Tensor | None = field(repr=False)
    what: str = ""

    def module(self, **other: Any) -> losses.JDTLoss:
        return getattr(losses, self.loss)(**{**self.arguments, **other})

    def __call__(self, input: torch.Tensor | None = None, **other: Any) -> torch.Tensor:
        given: dict[str, Any] = {} if self.rater_weights is None else {"rater_weights": self.rater_weights}
        return self.module(**other)(self.input if input is None else input, self.target, self.mask, **given)

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        return as_array(self.input), as_array(self.target), None if self.mask is None else as_array(self.mask)

    def oracle_arguments(self) -> dict[str, Any]:
        arguments = {key: v for key, v in self.arguments.items() if key not in ("other_act", "sync", "backend")}
        if "other_act" in self.arguments:
            arguments["other_act"] = lambda x: np.clip(0.5 + 0.25 * np.tanh(x), 0, 1)
        return {**arguments, "rater_weights": None if self.rater_weights is None else as_array(self.rater_weights)}

    def oracle(self) -> np.ndarray | float:
        return norm_form.value(self.loss, *self.arrays(), **self.oracle_arguments())

    def oracle_gradient(self) -> np.ndarray:
        return norm_form.gradient(self.loss, *self.arrays(), **self.oracle_arguments())


def without_warning(loss: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Name `focal_gamma`, at its default, beside `gamma`: JDTFocalLoss warns of `gamma` alone, which is MONAI's name for the other."""
    return {"focal_gamma": 2.0, **arguments} if loss == "JDTFocalLoss" and "gamma" in arguments else arguments


def tame(x: torch.Tensor) -> torch.Tensor:
    """An `other_act` with values in [.25, .75]; module level, so that it pickles."""
    return 0.5 + 0.25 * torch.tanh(x)


def as_array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().to(torch.float64).cpu().numpy()


def laid_out(tensor: torch.Tensor, layout: str) -> torch.Tensor:
    """The same values in another memory layout; a crop has NaN (or the largest integer) around it."""
    if tensor.ndim < 3 or layout == "contiguous" or tensor.numel() == 0:
        return tensor
    if layout == "channels_last":
        return tensor.movedim(1, -1).contiguous().movedim(-1, 1)
    if layout == "reversed_strides":
        backwards = tuple(reversed(range(tensor.ndim)))
        return tensor.permute(backwards).contiguous().permute(backwards)
    # no class, and a number that a double holds: torch 2.14 refuses the largest int64 as a value of `pad`
    around = math.nan if tensor.is_floating_point() else tensor.dtype == torch.bool or torch.iinfo(tensor.dtype).max // 2 + 1
    return torch.nn.functional.pad(tensor, (1, 2), value=around)[..., 1:-2]


def holds(dtype: torch.dtype, value: int) -> bool:
    if dtype is torch.bool:
        return value in (0, 1)
    return dtype.is_floating_point or torch.iinfo(dtype).min <= value <= torch.iinfo(dtype).max


@st.composite
def shapes(draw: st.DrawFn, empty: bool = True, most: int = 40) -> tuple[int, int, list[int]]:
    """(N, C, space)."""
    n = draw(st.sampled_from([1, 1, 2, 2, 3] + ([0] if empty else [])))
    c = draw(st.sampled_from([1, 2, 3, 4]))
    space = draw(st.lists(st.integers(1, 5), min_size=0, max_size=4).filter(lambda s: math.prod(s) <= most))
    if empty and space and draw(st.integers(0, 12)) == 0:
        space[draw(st.integers(0, len(space) - 1))] = 0
    return n, c, space


@st.composite
def activations(draw: st.DrawFn, compound: bool, channels: int) -> dict[str, Any]:
    choices: list[dict[str, Any]] = [{"sigmoid": True}] + ([{"softmax": True}] if channels > 1 else [])
    if not compound:
        choices += [{}, {"other_act": tame}]
    return draw(st.sampled_from(choices))


@st.composite
def forms(draw: st.DrawFn, activation: dict[str, Any], channels: int) -> str:
    """Label form: "dense", "index", "regions", "votes", "votes of regions"."""
    choices = ["dense", "dense", "votes"]
    if channels > 1:
        choices.append("index")
    if "softmax" not in activation:
        choices += ["regions", "votes of regions"]
    return draw(st.sampled_from(choices))


def sometimes(draw: st.DrawFn, one_in: int = 3) -> bool:
    return draw(st.integers(1, one_in)) == 1


@st.composite
def ratio_arguments(draw: st.DrawFn, loss: str) -> dict[str, Any]:
    arguments: dict[str, Any] = {}
    if sometimes(draw, 4):
        squared: list[dict[str, Any]] = [{"norm": 2}, {"squared_pred": True}]
        arguments = draw(st.sampled_from(squared)).copy()
    if loss in FREE and sometimes(draw, 2):
        alpha = draw(st.sampled_from([0.0, 0.3, 0.5, 1.0, 2.0]))
        beta = alpha if arguments else draw(st.sampled_from([0.7, 0.5, 0.25, 1.0, 0.0]))
        if alpha + beta > 0:
            arguments.update(alpha=alpha, beta=beta)
    if sometimes(draw, 4):
        arguments["gamma"] = draw(st.sampled_from([0.5, 1.5, 2.0, 0.75]))
    smooth = draw(st.sampled_from([None, None, (0.0, 1e-5), (1e-5, 1e-5), (1.0, 1.0), (0.25, 0.5), (0.0, 0.0)]))
    if smooth is not None:
        arguments.update(smooth_nr=smooth[0], smooth_dr=smooth[1])
    if (smooth is None or smooth[0] > 0) and sometimes(draw, 4):
        arguments["log_loss"] = True
    return arguments


@st.composite
def averaging_arguments(draw: st.DrawFn, loss: str, channels: int) -> dict[str, Any]:
    arguments: dict[str, Any] = {}
    kept = channels
    if channels > 1 and sometimes(draw, 3):
        arguments["include_background"] = False
        kept -= 1
    classes: str | list[int] = draw(st.sampled_from(["all", "all", "present", "label", "prob", "both", "list", "pooled"]))
    if classes == "list":
        first = channels - kept
        classes = draw(st.lists(st.integers(first, channels - 1), min_size=1, max_size=kept, unique=True))
    if classes != "all":
        arguments["classes"] = classes
    if sometimes(draw, 4):
        arguments["threshold"] = draw(st.sampled_from([0.0, 0.3, 0.5]))
    how = draw(st.sampled_from(["plain", "batch", "average", "reduction"]))
    if how == "batch":
        arguments["batch"] = True
    if how in ("batch", "reduction"):
        choices = ["mean", "sum"] + ([] if loss in COMPOUND else ["none"])
        arguments["reduction"] = draw(st.sampled_from(choices))
    if how == "average":
        kinds = ["dataset", "image"] + ([] if classes == "pooled" else ["class"])
        average: str | dict[str, float] = draw(st.sampled_from([*kinds, "weights"]))
        if average == "weights":
            average = {kind: draw(st.sampled_from([0.2, 0.3, 1.5])) for kind in kinds}
        arguments["average"] = average
    if classes != "pooled" and sometimes(draw, 3):
        length = channels if loss in COMPOUND else kept
        each: st.SearchStrategy[float | list[float]] = st.lists(
            st.sampled_from([0.0, 0.5, 1.0, 20.0]), min_size=length, max_size=length
        )
        arguments["weight"] = draw(st.one_of(st.just(2.5), each))
    return arguments


@st.composite
def configurations(
    draw: st.DrawFn,
    names: tuple[str, ...] = OVERLAP + COMPOUND,
    dtypes: tuple[torch.dtype, ...] = FLOATS,
    empty: bool = True,
    ties: bool = True,
    most: int = 24,
    plain_layout: bool = False,
) -> Configuration:
    """What the documentation allows, of any kind."""
    loss = draw(st.sampled_from(names))
    n, c, space = draw(shapes(empty, most))
    activation = draw(activations(loss in COMPOUND, c))
    form = draw(forms(activation, c))
    arguments = {**activation, **draw(ratio_arguments(loss)), **draw(averaging_arguments(loss, c))}
    if ("sigmoid" in activation or "softmax" in activation) and sometimes(draw, 4):
        arguments["label_smoothing"] = draw(st.sampled_from([0.1, 0.3]))
    if loss == "JDTCELoss" and sometimes(draw):
        arguments.update(lambda_jdt=draw(st.sampled_from([0.0, 1.0, 0.6])), lambda_ce=draw(st.sampled_from([1.0, 0.4])))
    if loss == "JDTFocalLoss" and sometimes(draw):
        power = draw(st.sampled_from([1.0, 1.5, 3.0]))
        arguments.update(lambda_jdt=draw(st.sampled_from([0.0, 1.0])), lambda_focal=0.5, focal_gamma=power)
    arguments = without_warning(loss, arguments)
    if loss == "JDTFocalLoss" and sometimes(draw):
        arguments["focal_alpha"] = draw(st.sampled_from([0.25, 0.8]))
    ignore = draw(st.sampled_from([None, None, 255, -1, 7, 0, 1]))
    if form == "dense" and ignore in (0, 1):
        ignore = None  # a legal value of a dense label
    if "regions" in form and ignore == 1:
        ignore = None  # a value of the regions
    if ignore is not None:
        arguments["ignore_index"] = ignore
    if form in ("regions", "votes of regions"):
        arguments["regions"] = [draw(st.lists(st.sampled_from([1, 2, 4]), min_size=1, max_size=3, unique=True)) for _ in range(c)]
    by_form = {"index": {"to_onehot_y": True}, "votes": {"votes": True}, "votes of regions": {"votes": True}}
    arguments.update(by_form.get(form, {}))

    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    dtype = draw(st.sampled_from(dtypes))
    layout = "contiguous" if plain_layout else draw(st.sampled_from(LAYOUTS))
    input = torch.from_numpy(np.asarray(rng.normal(0, 2, (n, c, *space)))).to(dtype)
    if not activation:
        input = torch.from_numpy(np.asarray(rng.uniform(0.02, 0.98, (n, c, *space)))).to(dtype)
        if ties:
            input = torch.where(torch.from_numpy(rng.random(input.shape) < 0.2), input.round(), input)
    target, label_dtype = _target(draw, rng, form, arguments, input, activation, ties)
    mask = _mask(draw, rng, n, c, space, "sigmoid" in activation)
    rater_weights = None
    if form.startswith("votes") and sometimes(draw, 2):
        raters = target.shape[1]
        shapes_of_weights: list[tuple[int, ...]] = [(n, raters), (raters,)]
        shape = draw(st.sampled_from(shapes_of_weights))
        dtype_of_weights = draw(st.sampled_from([torch.float32, torch.float64]))
        rater_weights = torch.from_numpy(rng.choice([0.0, 0.5, 1.0, 3.0], shape)).to(dtype_of_weights)
    return Configuration(
        loss,
        arguments,
        laid_out(input, layout),
        laid_out(target, "contiguous" if plain_layout else draw(st.sampled_from(LAYOUTS))),
        mask,
        rater_weights,
        f"{form} {label_dtype} {tuple(input.shape)} {dtype} {layout} mask {None if mask is None else (mask.dtype, tuple(mask.shape))}",
    )


def _target(
    draw: st.DrawFn,
    rng: np.random.Generator,
    form: str,
    arguments: dict[str, Any],
    input: torch.Tensor,
    activation: dict[str, Any],
    ties: bool,
) -> tuple[torch.Tensor, torch.dtype]:
    n, c, *space = input.shape
    ignore = arguments.get("ignore_index")
    if form == "dense":
        kind = draw(st.sampled_from(["soft", "hard"]))
        dtype = draw(st.sampled_from(FLOATS if kind == "soft" else (*FLOATS, torch.bool, torch.uint8, torch.int64)))
        label = rng.random((n, c, *space))
        if "softmax" in activation:
            label = label**3 + 1e-3
            label = label / label.sum(1, keepdims=True)
            if kind == "hard":
                label = np.moveaxis(np.eye(c)[label.argmax(1)], -1, 1)
        else:
            label = np.where(rng.random(label.shape) < 0.3, label.round(), label)
            if kind == "hard":
                label = label.round()
            elif ties and not activation:
                label = np.where(rng.random(label.shape) < 0.2, input.double().numpy(), label)
        target = torch.from_numpy(np.asarray(label)).to(dtype)
        if ignore is not None and holds(dtype, ignore):
            nowhere = torch.from_numpy(rng.random((n, 1, *space)) < 0.25)
            target = torch.where(nowhere, torch.tensor(ignore, dtype=dtype), target)
        return target, dtype
    maps = draw(st.integers(1, 4)) if form.startswith("votes") else 1
    dtype = draw(st.sampled_from((*FLOATS, *INTEGERS)))
    values = [0, 1, 2, 4] if "regions" in arguments else list(range(max(c, 2)))
    if ignore is not None and holds(dtype, ignore):
        values.append(ignore)
    target = torch.from_numpy(np.asarray(rng.choice(values, (n, maps, *space)))).to(dtype)
    return target, dtype


def _mask(draw: st.DrawFn, rng: np.random.Generator, n: int, c: int, space: list[int], per_channel: bool) -> torch.Tensor | None:
    if not sometimes(draw, 2):
        return None
    channels = draw(st.sampled_from([1, c])) if per_channel else 1
    share = draw(st.sampled_from([0.0, 0.5, 0.8, 0.8, 1.0]))
    counts = torch.from_numpy(np.asarray(rng.random((n, channels, *space)) < share))
    return counts.to(draw(st.sampled_from([torch.bool, torch.bool, torch.float32, torch.uint8])))


#: Contradictions: name -> (condition on the configuration, change of its arguments).
CONTRADICTIONS: dict[str, tuple[Callable[[Configuration], bool], dict[str, Any]]] = {
    "average with batch": (lambda k: True, {"average": "image", "batch": True, "reduction": "mean"}),
    "average with sum": (lambda k: True, {"average": "class", "classes": "all", "reduction": "sum"}),
    "pooled with weight": (lambda k: True, {"classes": "pooled", "average": None, "weight": 1.0}),
    "pooled with average class": (
        lambda k: True,
        {"classes": "pooled", "average": "class", "batch": False, "reduction": "mean", "weight": None},
    ),
    "norm 2 with alpha != beta": (lambda k: k.loss in FREE, {"norm": 2, "alpha": 0.3, "beta": 0.7}),
    "smooth_nr > smooth_dr": (lambda k: True, {"smooth_nr": 1e-3, "smooth_dr": 1e-5}),
    "sync with sum": (lambda k: True, {"sync": True, "reduction": "sum", "average": None}),
    "alpha < 0": (lambda k: k.loss in FREE, {"alpha": -0.1, "beta": 0.5, "norm": 1, "squared_pred": False}),
    "both costs 0": (lambda k: k.loss in FREE, {"alpha": 0.0, "beta": 0.0}),
    "gamma 0": (lambda k: True, {"gamma": 0.0}),
    "soft_label False": (lambda k: True, {"soft_label": False}),
    "two activations": (lambda k: True, {"sigmoid": True, "softmax": True, "other_act": None}),
    "one channel with softmax": (
        lambda k: k.input.shape[1] == 1 and "regions" not in k.arguments,
        {"softmax": True, "sigmoid": False, "other_act": None},
    ),
    "one channel without background": (lambda k: k.input.shape[1] == 1, {"include_background": False}),
    "weight of another length": (lambda k: True, {"weight": [1.0] * 7, "classes": "all"}),
    "reduction none in a compound": (lambda k: k.loss in COMPOUND, {"reduction": "none", "average": None}),
    "dense label with ignore_index 1": (
        lambda k: not (k.arguments.get("votes") or k.arguments.get("to_onehot_y") or "regions" in k.arguments),
        {"ignore_index": 1},
    ),
    "an ignored value in a region": (lambda k: "regions" in k.arguments, {"ignore_index": 4, "regions": [[1, 4]] * 4}),
    "label_smoothing 2": (lambda k: True, {"label_smoothing": 2.0}),
    "no such class set": (lambda k: True, {"classes": "some", "average": None}),
}


@st.composite
def mistaken_configurations(draw: st.DrawFn, **options: Any) -> tuple[Configuration, str]:
    """An allowed configuration and the name of one contradiction put into it."""
    configuration = draw(configurations(**options))
    fits = [name for name, (condition, _) in CONTRADICTIONS.items() if condition(configuration)]
    name = draw(st.sampled_from(fits))
    configuration.arguments = {**configuration.arguments, **CONTRADICTIONS[name][1]}
    return configuration, name
