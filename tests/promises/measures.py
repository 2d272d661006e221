"""A measurement for each promise about losses: subject -> whether it is kept, and the figure that says so.

Every measurement is the same for all subjects, and each can fail: `test_promises.py` holds both.
"""

from __future__ import annotations

import copy
import pickle
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from functools import lru_cache
from io import StringIO
from typing import Any

import torch
from monai.data import MetaTensor
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from monai_jdt.checks import value_checks
from tests.promises.ranks import errors_of_ranks
from tests.promises.subjects import Heads, Subject, logits_of, with_coarse_head


@dataclass(frozen=True)
class Measured:
    """`passed` None: the promise does not apply, and the figure says why."""

    passed: bool | None
    figure: str


@dataclass(frozen=True)
class Promise:
    """A promise in a sentence, what the figure is, and how it is measured."""

    title: str
    says: str
    figure: str
    measure: Callable[[Subject], Measured]


def short(number: float) -> str:
    """A figure of few characters: 0, 2e-8, .39, 1.2."""
    if number != number or number in (float("inf"), -float("inf")):
        return str(number)
    if number == 0:
        return "0"
    if abs(number) < 1e-3:
        return f"{number:.0e}".replace("e-0", "e-")
    return f"{number:.2g}".replace("0.", ".", 1)


def random(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def soft_label(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32, sharpness: float = 2.0) -> torch.Tensor:
    """Shares that sum to 1 over the channels."""
    return torch.softmax(sharpness * torch.randn(*shape, generator=random(seed), dtype=torch.float64), 1).to(dtype)


def one_hot(index: torch.Tensor, channels: int) -> torch.Tensor:
    return torch.cat([index == c for c in range(channels)], 1)


def best_form(subject: Subject) -> str:
    """The form in which a mask or a rank can be tried: dense where a soft label may be ignored."""
    return "index" if subject.mask == "ignore_index with class indices only" or not subject.soft else "dense"


def value_and_gradient(
    subject: Subject,
    module: nn.Module,
    prediction: torch.Tensor | Heads,
    label: torch.Tensor,
    mask: torch.Tensor | None = None,
    activation: str = "softmax",
) -> tuple[torch.Tensor, torch.Tensor]:
    """The gradient of heads is one flat vector."""
    leaves = [p.detach().clone().requires_grad_() for p in (prediction if isinstance(prediction, list) else [prediction])]
    value = subject.value(module, leaves if isinstance(prediction, list) else leaves[0], label, mask, activation)
    value.backward()
    gradients = [torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for leaf in leaves]
    return value.detach(), gradients[0] if len(gradients) == 1 else torch.cat([g.flatten() for g in gradients])


# --- 1: smallest at the label ---

LABELS = tuple(k / 10 for k in range(1, 10))
#: The finest step of the search; a minimiser this near is at the label.
NEAR = 1e-3


def minimiser_at_label(subject: Subject, labels: Sequence[float] = LABELS) -> Measured:
    if not subject.soft:
        return Measured(None, "refuses soft labels")
    plain, weighted = 0.0, 0.0
    for activation in subject.activations:
        for company in (False, True):
            for y in labels:
                plain = max(plain, abs(minimiser(subject, activation, y, company) - y))
                if subject.weights and activation != "none":
                    weighted = max(weighted, abs(minimiser(subject, activation, y, company, (1.0, 20.0)) - y))
    figure = f"{short(plain)}, weighted {short(weighted)}" if weighted > plain + NEAR else short(plain)
    return Measured(max(plain, weighted) <= NEAR, figure)


def minimiser(subject: Subject, activation: str, y: float, company: bool, weight: tuple[float, float] | None = None) -> float:
    """The prediction x for voxels of label y that makes the loss smallest, others being predicted exactly."""
    exact = subject.exact
    # One voxel; or two of label y among one of foreground and seven of background.
    label, shared = torch.tensor([y], dtype=exact), torch.tensor([True])
    if company:
        label, shared = torch.tensor([y, y, 1.0, *[0.0] * 7], dtype=exact), torch.tensor([True] * 2 + [False] * 8)
    target = label
    if subject.heads:
        # The head that counts is half as long as the label, whose means over two voxels are y.
        apart = torch.where(shared, 0.1, 0.0)
        target = torch.stack([label - apart, label + apart], 1).flatten()
    module = subject.make(activation, weight=weight) if weight is not None else subject.make(activation)

    def channels(values: torch.Tensor) -> torch.Tensor:
        if activation == "softmax":
            return torch.stack([1 - values, values])[None]
        return torch.stack([values] * (1 if weight is None else 2))[None]

    target = channels(target)

    def loss_at(x: float) -> float:
        prediction = logits_of(channels(torch.where(shared, x, label)), activation)
        return float(subject.value(module, [prediction] if subject.heads else prediction, target, None, activation))

    def clipped(x: float) -> float:
        return min(max(round(x, 9), 1e-6), 1 - 1e-6)

    step = 0.05
    best = min((clipped(k * step) for k in range(21)), key=loss_at)
    while step > NEAR / 2:
        step /= 5
        best = min((clipped(best + k * step) for k in (0, -4, -3, -2, -1, 1, 2, 3, 4)), key=loss_at)
    return best


# --- 2: precision ---

#: A result in half precision may differ this much from float64's on the same rounded numbers.
HALF = 1e-3


def precision(subject: Subject, size: int = 64) -> Measured:
    # A ball of 1 % of the volume with a soft edge, and a prediction that is about right.
    axis = torch.linspace(-1, 1, size, dtype=torch.float64)
    radius = (axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2).sqrt()
    lesion = torch.sigmoid((0.27 - radius) * 30)[None, None]
    label = torch.cat([1 - lesion, lesion], 1)
    logits = logits_of(label, "softmax").clamp(-7, 7) + 0.7 * torch.randn(label.shape, generator=random(0), dtype=torch.float64)
    form = "dense" if subject.soft else "index"
    if form == "index":
        label = (lesion > 0.5).to(torch.int64)
    prediction: torch.Tensor | Heads = with_coarse_head(logits, "softmax") if subject.heads else logits
    activation = "softmax"
    if subject.vectors:
        activation, prediction = "none", torch.softmax(logits, 1)
    module = subject.make(activation, form)

    found, failures = [], []
    for name, dtype in (("fp32", torch.float32), ("fp16", torch.float16), ("bf16", torch.bfloat16)):
        rounded = tree_map_only(torch.Tensor, lambda v, d=dtype: v.to(d), prediction)
        target = label.to(dtype) if form == "dense" else label
        wide = tree_map_only(torch.Tensor, lambda v: v.to(torch.float64), rounded)
        exact = subject.value(module, wide, target.to(torch.float64) if form == "dense" else target, None, activation)
        value, gradient = value_and_gradient(subject, module, rounded, target, None, activation)
        lost = 1 - float(torch.isfinite(gradient).float().mean())
        error = abs(float(value) - float(exact)) / abs(float(exact))
        if not torch.isfinite(value) or lost:
            found.append(f"{name} {short(float(value))}, {lost:.0%} of gradients lost")
            failures.append(name)
        elif exact.dtype is not torch.float64 and name == "fp32":
            found.append("fp32 ?, float64 is cut to float32")
            failures.append(name)
        else:
            found.append(f"{name} {short(error)}" + ("" if value.dtype is torch.float32 else f" as {str(value.dtype).split('.')[1]}"))
            if value.dtype is not torch.float32 or error > (1e-6 if name == "fp32" else HALF):
                failures.append(name)
    return Measured(not failures, "; ".join(found))


# --- 3: 0 at the label and nowhere else; compounds smallest there ---


def zero_at_label(subject: Subject) -> Measured:
    activation = "none" if "none" in subject.activations else subject.activations[0]
    module = subject.make(activation) if subject.soft else subject.make("softmax")
    shape = (2, 2, 3, 4)
    t = soft_label(*shape, dtype=subject.exact)
    if not subject.soft:
        t = one_hot(t.argmax(1, keepdim=True), 2).to(subject.exact)

    def loss(p: torch.Tensor, label: torch.Tensor = t) -> float:
        logits = logits_of(p, activation)
        if not subject.soft:
            logits = 50 * logits  # a softmax then gives 0 and 1 exactly
        return float(subject.value(module, logits, label.to(p.dtype), None, activation))

    at_label = loss(t)
    elsewhere = []
    for seed in range(60):
        elsewhere.append(loss(soft_label(*shape, seed=seed + 1, dtype=subject.exact)) - at_label)
        if subject.soft:
            for share in (0.5, 0.1, 1e-2, 1e-3):
                near = (1 - share) * t + share * soft_label(*shape, seed=seed + 1, dtype=subject.exact, sharpness=20.0)
                elsewhere.append(loss(near) - at_label)
    if subject.soft:
        for power in (0.5, 0.8, 0.95, 1.05, 1.25, 2.0, 4.0):  # flatter and sharper than the label
            elsewhere.append(loss(torch.softmax(power * t.log(), 1)) - at_label)
    if subject.soft and "sigmoid" in subject.activations:
        # An empty label: a false alarm has to cost something.
        act = activation if activation == "none" else "sigmoid"
        alone, empty = subject.make(act), torch.zeros(1, 1, 8, dtype=subject.exact)
        right, wrong = (float(subject.value(alone, logits_of(p, act), empty, None, act)) for p in (empty, empty + 0.5))
        elsewhere.append(wrong - right)
    least = min(elsewhere)
    figure = f"{short(at_label)} at the label" if subject.zero_at_label else ""
    figure += f"{', ' if figure else ''}{'+' if least > 0 else ''}{short(least)} elsewhere"
    passed = least > 0 and (not subject.zero_at_label or 0 <= at_label <= 1e-12)
    if subject.zero_at_label and subject.soft:
        # In float32, near the label, where 1 - score may round below 0.
        big = soft_label(1, 2, 24, 24, 24)
        lowest = min(loss((big + e).clamp(0, 1), big) for e in (0.0, 1e-7, -1e-7, 1e-6, -1e-6))
        passed &= lowest >= 0
        figure += f", {short(lowest)} in float32" if lowest < 0 else ""
    if subject.gamma:
        module = subject.make(activation, gamma=0.5)
        value, gradient = value_and_gradient(subject, module, logits_of(t, activation), t, None, activation)
        finite = bool(torch.isfinite(value) and torch.isfinite(gradient).all())
        passed &= finite
        figure += "" if finite else ", gamma .5 not finite"
    return Measured(passed, figure)


# --- 4: ranks ---


@lru_cache
def _errors_of_ranks(kernel: str) -> dict[str, tuple[float, ...] | str]:
    return errors_of_ranks(kernel)


def ranks_are_one_process(subject: Subject) -> Measured:
    if subject.vectors:
        return Measured(None, "no sums over a batch")
    errors = _errors_of_ranks(subject.kernel)[subject.name]
    if isinstance(errors, str):
        return Measured(False, errors)
    figure = " / ".join(short(e) for e in errors)
    if subject.family == "ours" and not subject.syncs:
        return Measured(None, f"no `sync`: {figure}")
    return Measured(max(errors) <= 1e-5, figure)


# --- 5: ignored voxels ---


def ignored_voxels_are_ignored(subject: Subject) -> Measured:
    if not subject.mask:
        return Measured(None, "no mask, no ignore_index")
    form = best_form(subject)
    label = soft_label(2, 3, 4, 6)
    index = label.argmax(1, keepdim=True)
    ignored = torch.rand(2, 1, 4, 6, generator=random(1)) < 0.3
    ignored[0, :, :, :2] = True  # a whole block of the coarse head
    marker = 255
    by_mask = subject.mask == "mask"
    options: dict[str, Any] = {} if by_mask else {"ignore_index": marker}
    module = subject.make("softmax", form, **options)
    mask = ~ignored if by_mask else None
    logits = torch.randn(2, 3, 4, 6, generator=random(2))

    def case(bad_logit: float, bad_label: float) -> tuple[torch.Tensor, torch.Tensor]:
        target = (label if form == "dense" else index).masked_fill(ignored, marker if not by_mask else bad_label)
        fine = logits.masked_fill(ignored, bad_logit)
        prediction: torch.Tensor | Heads = fine
        if subject.heads:
            whole = ignored.unflatten(-1, (-1, 2)).all(-1)
            prediction = [fine, with_coarse_head(logits, "softmax")[1].masked_fill(whole, bad_logit)]
        return value_and_gradient(subject, module, prediction, target, mask)

    nan = float("nan")
    value, gradient = case(0.0, 0.0)
    worst, other = 0.0, 0.0
    for bad_logit, bad_label in [(nan, 0.0), (float("inf"), 0.0)] + ([(0.0, nan)] if form == "dense" and by_mask else []):
        got, slope = case(bad_logit, bad_label)
        worst = max(worst, 1 - float(torch.isfinite(slope).float().mean()), 0.0 if torch.isfinite(got) else 1e-9)
        if worst == 0:
            other = max(other, abs(float(got - value)), float((slope - gradient).abs().max()))
    return Measured(worst == 0 and other == 0, f"{worst:.0%}" if worst or not other else f"0%, value or gradient {short(other)} off")


# --- 6: one label in every form ---


def forms_are_one_label(subject: Subject) -> Measured:
    if "index" not in subject.forms:
        return Measured(None, "takes two vectors")
    if subject.family == "formula":
        return Measured(None, "plain formula")
    index = torch.randint(0, 3, (2, 1, 4, 6), generator=random(1))
    logits = torch.randn(2, 3, 4, 6, generator=random(2))
    dense = one_hot(index, 3)
    tries: list[tuple[str, str, torch.Tensor]] = []
    for dtype in (torch.int64, torch.int32, torch.uint8, torch.float32):
        tries.append(("index", f"{dtype} index", index.to(dtype)))
    for dtype in (torch.int64, torch.uint8, torch.bool, torch.float64):
        tries.append(("dense", f"{dtype} one-hot", dense.to(dtype)))
    if "votes" in subject.forms:
        tries.append(("votes", "votes", index))
    plain, weighted, refused = 0.0, 0.0, set()
    for weight in (None, (1.0, 5.0, 2.0)) if subject.weights else (None,):
        options: dict[str, Any] = {} if weight is None else {"weight": weight}
        value, gradient = value_and_gradient(subject, subject.make("softmax", "dense", **options), logits, dense.float())
        for form, name, label in tries:
            try:
                got, slope = value_and_gradient(subject, subject.make("softmax", form, **options), logits, label)
            except (RuntimeError, TypeError, ValueError, AssertionError, IndexError):
                refused.add(name)
                continue
            apart = max(abs(float(got - value)) / abs(float(value)), float((slope - gradient).abs().max() / gradient.abs().max()))
            if weight is None:
                plain = max(plain, apart)
            else:
                weighted = max(weighted, apart)
    figure = short(plain) if weighted <= max(plain, 1e-6) else f"{short(plain)}, weighted {short(weighted)}"
    if refused:
        figure += f", {len(refused)} of {len(tries)} forms raise"
    return Measured(max(plain, weighted) <= 1e-6 and not refused, figure)


# --- 7: wrong inputs ---


def wrong_inputs_are_refused(subject: Subject) -> Measured:
    if subject.family == "formula":
        return Measured(None, "plain formula")
    named, otherwise, accepted = 0, 0, []
    cases = list(_wrong_vectors(subject) if subject.vectors else _wrong_inputs(subject))
    for name, action in cases:
        try:
            action()
        except (ValueError, TypeError) as error:
            named += bool(str(error))
        except Exception as error:
            otherwise += bool(str(error))
        else:
            accepted.append(name)
    figure = f"{named}/{len(cases)}" + (f", {otherwise} by another error" if otherwise else "")
    return Measured(named == len(cases), figure)


def _wrong_inputs(subject: Subject) -> Iterator[tuple[str, Callable[[], Any]]]:
    shape = (2, 3, 4, 6)
    logits = torch.randn(shape, generator=random(0))
    label = soft_label(*shape)
    index = label.argmax(1, keepdim=True)
    if not subject.soft:
        label = one_hot(index, 3).float()

    def call(
        prediction: torch.Tensor, target: torch.Tensor, form: str = "dense", mask: torch.Tensor | None = None, **options: Any
    ) -> Callable[[], Any]:
        def action() -> None:
            heads = [prediction] if subject.heads else prediction
            subject.value(subject.make("softmax", form, **options), heads, target, mask)

        return action

    yield "fewer slices", call(logits, label[..., :4])
    yield "fewer images", call(logits, label[:1])
    yield "fewer channels", call(logits, label[:, :2])
    yield "channel last", call(logits, label.movedim(1, -1))
    yield "a map of .7 as class indices", call(logits, torch.full((2, 1, 4, 6), 0.7), "index")
    yield "an invalid class", call(logits, index.masked_fill(index == 2, 7), "index")
    yield "a class below 0", call(logits, index.masked_fill(index == 2, -1), "index")
    yield "a 0/255 mask", call(logits, 255 * one_hot(index, 3).float())
    yield "logits as label", call(logits, torch.randn(shape, generator=random(1)))
    yield "a label without background", call(logits, torch.cat([0 * label[:, :1], label[:, 1:]], 1))
    yield "a NaN in the label", call(logits, label.masked_fill(torch.rand(shape, generator=random(2)) < 0.1, float("nan")))
    yield "whole numbers as logits", call(logits.long(), label)
    if subject.mask == "mask":
        yield "a mask of weights", call(logits, label, mask=torch.full((2, 1, 4, 6), 0.5))
    if subject.weights:
        yield "a weight below 0", call(logits, label, weight=(1.0, -1.0, 1.0))
        yield "too few weights", call(logits, label, weight=(1.0, 2.0))
    if len(subject.activations) > 1:
        yield "sigmoid and softmax", call(logits, label, sigmoid=True)
    if subject.name != "LovaszSoftmaxLoss":
        yield "a reduction that is none", call(logits, label, reduction="average")


def _wrong_vectors(subject: Subject) -> Iterator[tuple[str, Callable[[], Any]]]:
    x, y = torch.rand(2, 3, 8, generator=random(0)), torch.rand(2, 3, 8, generator=random(1))

    def call(one: Any, other: Any, **options: Any) -> Callable[[], Any]:
        return lambda: subject.build("none", "dense", **options)(one, other)

    yield "shorter", call(x, y[..., :7])
    yield "fewer", call(x, y[:1])
    yield "one dimension less", call(x, y[0])
    yield "channel last", call(x, y.movedim(1, -1))
    yield "numbers below 0 in x", call(x - 0.5, y)
    yield "numbers below 0 in y", call(x, y - 0.5)
    yield "whole numbers", call(x, y.long())
    yield "no tensor", call(x, y.tolist())
    yield "no such dimension", call(x, y, dim=5)
    yield "no dimension", call(x, y, dim=[])
    yield "a reduction that is none", call(x, y, reduction="average")
    yield "smoothing below 0", call(x, y, smooth=-1.0)
    yield "no such map", call(x, y, negative="abs")


# --- 8: layouts ---


def layouts_do_not_matter(subject: Subject) -> Measured:
    if subject.family == "formula":
        return Measured(None, "plain formula")
    module = subject.make("softmax")
    bad, count = [], 0

    def label_of(*shape: int) -> torch.Tensor:
        label = soft_label(*shape) if subject.soft else torch.rand(shape, generator=random(0))
        return label if subject.soft else one_hot(label.argmax(1, keepdim=True), shape[1]).float()

    def same(name: str, views: Iterable[torch.Tensor], plain: tuple[torch.Tensor, torch.Tensor] | float) -> None:
        nonlocal count
        count += 1
        try:
            prediction, label = views
            value, gradient = value_and_gradient(subject, module, prediction, label)
            if isinstance(plain, float):
                expected, slope = torch.tensor(plain), torch.zeros_like(prediction)
            else:
                expected, slope = value_and_gradient(subject, module, *plain)
            fits = torch.allclose(torch.as_tensor(value.as_subclass(torch.Tensor)), expected, rtol=1e-6)
            fits &= torch.allclose(gradient.as_subclass(torch.Tensor).reshape(slope.shape), slope, rtol=1e-4, atol=1e-7)
        except Exception:
            fits = False
        if not fits:
            bad.append(name)

    x, t = torch.randn(2, 3, 4, 6, generator=random(1)), label_of(2, 3, 4, 6)
    plain = (x, t)
    wide = tuple(torch.nn.functional.pad(v, (1, 2, 3, 1)) for v in plain)
    same("cropped", tuple(v[..., 3:7, 1:7] for v in wide), plain)
    same("transposed", tuple(v.mT.contiguous().mT for v in plain), plain)
    same("channels last", tuple(v.contiguous(memory_format=torch.channels_last) for v in plain), plain)
    volume = tuple(v.reshape(2, 3, 2, 2, 6) for v in plain)
    same("3D, channels last", tuple(v.contiguous(memory_format=torch.channels_last_3d) for v in volume), plain)
    same("1D", tuple(v.reshape(2, 3, 24) for v in plain), plain)
    same("4D", tuple(v.reshape(2, 3, 2, 2, 1, 6) for v in plain), plain)
    same("one image repeated", (x, t[:1].expand(2, -1, -1, -1)), (x, t[:1].repeat(2, 1, 1, 1)))
    same("(N, C)", (x[:, :, 0, 0], t[:, :, 0, 0]), (x[:, :, 0, :1], t[:, :, 0, :1]))
    same("no image", (x[:0], t[:0]), 0.0)
    same("no voxel", (x[:, :, :0], t[:, :, :0]), 0.0)
    same("MetaTensor", (MetaTensor(x), MetaTensor(t)), plain)
    return Measured(not bad, f"{count - len(bad)}/{count}" + (f", not {', '.join(bad)}" if bad else ""))


# --- 9: torch's transforms ---


class Waits(TorchDispatchMode):
    """Counts what waits for a device: reading a number, and shapes that depend on values."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        name = function.overloadpacket.__name__
        chosen = name in ("index", "index_put", "index_put_") and any(
            i is not None and i.dtype in (torch.bool, torch.uint8) for i in args[1]
        )
        self.count += chosen or name in ("_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero")
        return function(*args, **(kwargs or {}))


def transforms_of_torch(subject: Subject) -> Measured:
    if subject.family == "formula":
        return Measured(None, "plain formula")
    form = "dense" if subject.soft else "index"
    module = subject.make("softmax", form)
    label = soft_label(2, 3, 4, 6)
    label = label if form == "dense" else label.argmax(1, keepdim=True)
    logits = torch.randn(2, 3, 4, 6, generator=random(1))
    prediction = with_coarse_head(logits, "softmax") if subject.heads else logits
    arguments = subject.arguments(prediction, label)
    expected = module(*arguments)
    failed = []

    def attempt(name: str, action: Callable[[], Any]) -> None:
        try:
            # A graph that cannot be made is printed by torch; the table says enough.
            with redirect_stderr(StringIO()), redirect_stdout(StringIO()):
                fits = action()
        except Exception:
            fits = False
        finally:
            torch._dynamo.reset()
        if not fits:
            failed.append(name)

    def compiled() -> bool:
        slopes = tree_map_only(torch.Tensor, lambda v: v.clone().requires_grad_() if v.is_floating_point() else v, arguments)
        value = torch.compile(module, fullgraph=True, backend="aot_eager")(*slopes)
        value.backward()
        return torch.allclose(value, expected, rtol=1e-5)

    def exported() -> bool:
        program = torch.export.export(module, arguments)
        return torch.allclose(program.module()(*arguments), expected, rtol=1e-5)

    def on_meta() -> bool:
        value = copy.deepcopy(module).to("meta")(*tree_map_only(torch.Tensor, lambda v: v.to("meta"), arguments))
        return value.is_meta and value.shape == ()

    attempt("compile", compiled)
    attempt("export", exported)
    attempt("meta", on_meta)
    with value_checks("off"), Waits() as waits:
        value_and_gradient(subject, module, prediction, label)
    figure = f"no {', no '.join(failed)}; " if failed else ""
    return Measured(not failed and waits.count == 0, f"{figure}{waits.count} waits")


# --- 10: state ---


def _takes(action: Callable[[], Any]) -> bool:
    try:
        action()
    except (RuntimeError, TypeError, ValueError, IndexError):
        return False
    return True


def state_is_its_own(subject: Subject) -> Measured:
    if subject.family == "formula":
        return Measured(None, "plain formula")
    form = "dense" if subject.soft else "index"
    label = soft_label(2, 3, 4, 6)
    label = label if form == "dense" else label.argmax(1, keepdim=True)
    logits = torch.randn(2, 3, 4, 6, generator=random(1))
    options: dict[str, Any] = {"weight": (1.0, 5.0, 2.0)} if subject.weights else {}

    def value(module: nn.Module) -> float:
        return float(subject.value(module, logits, label))

    def unchanged(module: nn.Module) -> bool:
        before = {k: v.clone() for k, v in module.state_dict().items()}
        value(module)
        after = module.state_dict()
        return before.keys() == after.keys() and all(torch.equal(before[k], after[k]) for k in before)

    def state_is_unchanged() -> bool:
        return unchanged(subject.make("softmax", form, **options))

    def scalar_weight_is_unchanged() -> bool:
        module = subject.make("softmax", form, weight=torch.tensor(2.0))
        fresh = copy.deepcopy(module)
        kept = unchanged(module)
        fresh.load_state_dict(module.state_dict())
        return kept

    def weight_is_copied() -> bool:
        weight = torch.tensor([1.0, 5.0, 2.0])
        module = subject.make("softmax", form, weight=weight)
        before = value(module)
        weight.mul_(3)
        return value(module) == before

    def inputs_are_untouched() -> bool:
        prediction = with_coarse_head(logits, "softmax") if subject.heads else logits
        given = subject.arguments(prediction, label)
        copies = copy.deepcopy(given)
        subject.make("softmax", form, **options)(*given)
        flat, other = ([v for a in side for v in (a if isinstance(a, list) else [a])] for side in (given, copies))
        return all(torch.equal(a, b) for a, b in zip(flat, other, strict=True))

    def weights_follow() -> bool:
        module = subject.make("softmax", form, **options).to(torch.float64)
        held = [v for part in module.modules() for v in vars(part).values() if isinstance(v, torch.Tensor)]
        return not held and all(v.dtype is torch.float64 for v in module.state_dict().values())

    def pickles() -> bool:
        module = subject.make("softmax", form, **options)
        return value(pickle.loads(pickle.dumps(module))) == value(module)

    def copies() -> bool:
        module = subject.make("softmax", form, **options)
        return value(copy.deepcopy(module)) == value(module)

    checks: dict[str, Callable[[], bool]] = {
        "state changes": state_is_unchanged,
        "edits its input": inputs_are_untouched,
        "no pickle": pickles,
        "no deepcopy": copies,
    }
    if subject.weights:
        checks |= {
            "weights stay behind": weights_follow,
            "shares the caller's weights": weight_is_copied,
            "a single weight is overwritten": scalar_weight_is_unchanged,
        }
        if not _takes(lambda: value(subject.make("softmax", form, weight=torch.tensor(2.0)))):
            del checks["a single weight is overwritten"]
    bad = []
    for name, check in checks.items():
        try:
            kept = check()
        except Exception:
            kept = False
        if not kept:
            bad.append(name)
    return Measured(not bad, f"{len(checks) - len(bad)}/{len(checks)}" + (f", {', '.join(bad)}" if bad else ""))


# --- 11: metrics in the sense of mathematics ---


def metric_axioms(subject: Subject, triples: int = 400) -> Measured:
    if not subject.axioms:
        return Measured(None, "no metric is claimed")
    module = subject.make("none")

    def d(a: torch.Tensor, b: torch.Tensor) -> float:
        return float(subject.value(module, a, b, None, "none"))

    def vector(size: int) -> torch.Tensor:
        """Many of the numbers are 0, 1 or 1/2, where norms meet."""
        values = torch.rand(1, 1, size, generator=generator, dtype=torch.float64)
        rounded = torch.rand(1, 1, size, generator=generator) < 0.7
        return torch.where(rounded, (2 * values).round() / 2, values)

    broken, excess, skew, apart, at_equal = 0, 0.0, 0.0, float("inf"), 0.0
    generator = random(0)
    for trial in range(triples):
        a, b, c = (vector(2 + trial % 4) for _ in range(3))
        ab, bc, ac = d(a, b), d(b, c), d(a, c)
        over = ac - ab - bc
        broken += over > 1e-9
        excess = max(excess, over)
        skew = max(skew, abs(ab - d(b, a)))
        at_equal = max(at_equal, abs(d(a, a)))
        if not torch.equal(a, b):
            apart = min(apart, ab)
    distance = skew <= 1e-12 and at_equal <= 1e-12 and apart > 0
    figures = [f"{short(skew)} asymmetric"] if skew > 1e-12 else []
    figures += [f"d(x, x) up to {short(at_equal)}"] if at_equal > 1e-12 else []
    figures += ["0 for unequal"] if apart <= 0 else []
    if subject.axioms == "metric" and broken:
        figures.append(f"triangle broken in {broken / triples:.1%} by {short(excess)}")
    metric = distance and not (subject.axioms == "metric" and broken)
    if not figures:
        figures.append(f"{triples} triangles hold" if subject.axioms == "metric" else "symmetric, 0 for equals only")
    return Measured(metric, ", ".join(figures))


def triangle_of(subject: Subject) -> Measured:
    """The semimetric held to the axioms of a metric, so that the search is seen to find something."""
    return metric_axioms(replace(subject, axioms="metric"))


PROMISES: dict[int, Promise] = {
    1: Promise(
        "Right on soft labels",
        "For a voxel whose label is .1, .2, ... .9 no other prediction has a smaller loss, whatever the other voxels or class weights.",
        "largest distance of the best prediction from the label (searched to 4e-4, up to 1e-3), alone and among other voxels, with "
        "every activation, with class weights 1 : 20 too",
        minimiser_at_label,
    ),
    2: Promise(
        "Precise",
        "float32 gives what float64 gives for the same numbers, the JDT losses also where a network is sure and right "
        "(`tests/kernels/test_sure.py`); half precision gives finite float32 results.",
        "relative error against float64 on the same rounded inputs, soft lesion of 1 % in 64^3 (float32 up to 1e-6, half up to "
        "1e-3); the dtype of a result if not float32",
        precision,
    ),
    3: Promise(
        "Nothing below the label",
        "An overlap loss is 0 at the label and above 0 elsewhere, a compound smallest at the label; fractional exponents stay finite.",
        "value at the label; least difference to it over random, flatter and sharper predictions, and for a false alarm on an empty "
        "label",
        zero_at_label,
    ),
    4: Promise(
        "Ranks are one process",
        "Under DistributedDataParallel a loss over the whole batch has the parameter gradients of one process.",
        "relative error of parameter gradients on two gloo ranks, with `batch=True` where there is one (ours: and `sync=True`): "
        "a class on one rank only / three images and one; up to 1e-5",
        ranks_are_one_process,
    ),
    5: Promise(
        "Ignored means ignored",
        "A NaN or inf in an ignored voxel reaches neither value nor gradient.",
        "share of gradient entries that it spoils",
        ignored_voxels_are_ignored,
    ),
    6: Promise(
        "One label, one loss",
        "A class map, its one-hot form of any dtype and the vote of one rater have one value and one gradient.",
        "largest relative difference in value or gradient; class weights 1 : 5 : 2; forms that raise; up to 1e-6",
        forms_are_one_label,
    ),
    7: Promise(
        "Mistakes are named",
        "Wrong shapes, ranges, dtypes and arguments raise a ValueError or TypeError with a message.",
        "wrong inputs refused so; refused by another error with a message",
        wrong_inputs_are_refused,
    ),
    8: Promise(
        "Any layout",
        "Crops, transposes, 1D to 4D, (N, C), empty batches and MetaTensors give the answer of plain tensors; nothing to count is 0.",
        "layouts with the right value and gradient",
        layouts_do_not_matter,
    ),
    9: Promise(
        "Compiles, and does not wait",
        "One graph under torch.compile, torch.export, meta tensors; nothing waits for the device once value checks are off.",
        "what fails; operations that wait for a device",
        transforms_of_torch,
    ),
    10: Promise(
        "Keeps its state to itself",
        "A call changes no state and no input; weights are copies and follow .to(); pickle and deepcopy work.",
        "checks passed",
        state_is_its_own,
    ),
    11: Promise(
        "A metric where it says so",
        "The Jaccard losses are metrics between labels (triangle inequality), the Dice ones semimetrics (symmetric, 0 for equals).",
        "violations over random triples",
        metric_axioms,
    ),
}


def measure(number: int, subject: Subject) -> Measured:
    """One cell of the table; a loss that raises where the promise applies has not kept it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return PROMISES[number].measure(subject)
        except (RuntimeError, TypeError, ValueError, AssertionError, IndexError) as error:
            return Measured(False, f"raises {type(error).__name__}")
