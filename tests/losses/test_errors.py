"""Promise 7: what is wrong raises a ValueError or TypeError that names the argument, what was expected and what was given."""

from __future__ import annotations

import re
from builtins import TypeError, ValueError
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

import monai_jdt.losses as losses
from monai_jdt.checks import value_checks
from tests.losses.strategies import COMPOUND, FREE, OVERLAP

ALL = OVERLAP + COMPOUND
#: All classes hand their options on to one constructor and call one function: one class without and one with a pixel term stand for
#: the others, and `test_every_class_hands_its_options_on` holds that.
OVERLAP_ONE, COMPOUND_ONE = ("JDTLoss",), ("JDTCELoss",)
TWO = OVERLAP_ONE + COMPOUND_ONE
SEED = torch.Generator().manual_seed(0)
X = torch.randn(2, 3, 4, 5, generator=SEED)
SOFT = torch.softmax(torch.randn(2, 3, 4, 5, generator=SEED), 1)
INDEX = torch.randint(0, 3, (2, 1, 4, 5), generator=SEED)
VOTES = torch.randint(0, 3, (2, 4, 4, 5), generator=SEED)
SOFTMAX = {"softmax": True}

# --- constructors: (losses, arguments, error, words of the message) ---

CONSTRUCTORS = [
    (TWO, {"sigmoid": True, "softmax": True}, ValueError, ["sigmoid", "softmax"]),
    (OVERLAP_ONE, {"softmax": True, "other_act": torch.sigmoid}, ValueError, ["softmax", "other_act"]),
    (OVERLAP_ONE, {"other_act": 3}, TypeError, ["other_act", "3|int"]),
    (TWO, {**SOFTMAX, "norm": 3}, ValueError, ["norm", "1", "2", "3"]),
    (TWO, {**SOFTMAX, "gamma": 0}, ValueError, ["gamma", "0"]),
    (TWO, {**SOFTMAX, "gamma": -1.0}, ValueError, ["gamma", "-1"]),
    (TWO, {**SOFTMAX, "gamma": float("nan")}, ValueError, ["gamma", "nan"]),
    (TWO, {**SOFTMAX, "gamma": "2"}, TypeError, ["gamma", "'2'"]),
    (TWO, {**SOFTMAX, "alpha": -0.1}, ValueError, ["alpha", "-0.1"]),
    (TWO, {**SOFTMAX, "beta": -0.1}, ValueError, ["beta", "-0.1"]),
    (TWO, {**SOFTMAX, "alpha": 0, "beta": 0}, ValueError, ["alpha", "beta", "0"]),
    (TWO, {**SOFTMAX, "alpha": float("inf")}, ValueError, ["alpha", "inf"]),
    (TWO, {**SOFTMAX, "norm": 2, "alpha": 0.3, "beta": 0.7}, ValueError, ["norm", "alpha", "beta"]),
    (TWO, {**SOFTMAX, "squared_pred": True, "alpha": 0.3, "beta": 0.7}, ValueError, ["norm|squared_pred", "alpha", "beta"]),
    (TWO, {**SOFTMAX, "smooth_nr": 1e-3}, ValueError, ["smooth_nr", "smooth_dr", "0.001"]),
    (TWO, {**SOFTMAX, "smooth_nr": -1.0}, ValueError, ["smooth_nr", "-1"]),
    (TWO, {**SOFTMAX, "smooth_dr": -1.0}, ValueError, ["smooth_dr", "-1"]),
    (TWO, {**SOFTMAX, "average": "images"}, ValueError, ["average", "image", "images"]),
    (TWO, {**SOFTMAX, "average": {"images": 1.0}}, ValueError, ["average", "images"]),
    (TWO, {**SOFTMAX, "average": {"image": -1.0}}, ValueError, ["average", "-1"]),
    (TWO, {**SOFTMAX, "average": {}}, ValueError, ["average"]),
    (TWO, {**SOFTMAX, "average": {"image": 0.0}}, ValueError, ["average"]),
    (TWO, {**SOFTMAX, "average": "image", "batch": True}, ValueError, ["average", "batch"]),
    (TWO, {**SOFTMAX, "average": "image", "reduction": "sum"}, ValueError, ["average", "reduction"]),
    (OVERLAP_ONE, {"average": "dataset", "reduction": "none"}, ValueError, ["average", "reduction"]),
    (TWO, {**SOFTMAX, "classes": "some"}, ValueError, ["classes", "some"]),
    (TWO, {**SOFTMAX, "classes": []}, ValueError, ["classes"]),
    (TWO, {**SOFTMAX, "classes": [1, 1]}, ValueError, ["classes"]),
    (TWO, {**SOFTMAX, "classes": [-1]}, ValueError, ["classes", "-1"]),
    (TWO, {**SOFTMAX, "classes": "pooled", "weight": [1.0, 2.0, 3.0]}, ValueError, ["weight", "pooled"]),
    (TWO, {**SOFTMAX, "classes": "pooled", "average": "class"}, ValueError, ["average|class", "pooled"]),
    (TWO, {**SOFTMAX, "threshold": -0.1}, ValueError, ["threshold", "-0.1"]),
    (TWO, {**SOFTMAX, "label_smoothing": 1.5}, ValueError, ["label_smoothing", "1.5"]),
    (TWO, {**SOFTMAX, "label_smoothing": -0.1}, ValueError, ["label_smoothing", "-0.1"]),
    (TWO, {**SOFTMAX, "reduction": "average"}, ValueError, ["reduction", "average"]),
    (COMPOUND_ONE, {**SOFTMAX, "reduction": "none"}, ValueError, ["reduction", "none"]),
    (COMPOUND_ONE, {}, ValueError, ["sigmoid", "softmax"]),
    (COMPOUND_ONE, {"other_act": torch.sigmoid}, ValueError, ["sigmoid|other_act"]),
    (TWO, {**SOFTMAX, "sync": True, "reduction": "sum"}, ValueError, ["sync", "reduction", "sum"]),
    (OVERLAP_ONE, {"sync": True, "reduction": "none"}, ValueError, ["sync", "reduction", "none"]),
    (TWO, {**SOFTMAX, "soft_label": False}, ValueError, ["soft_label", "False"]),
    (TWO, {**SOFTMAX, "weight": [1.0, -1.0, 1.0]}, ValueError, ["weight", "-1"]),
    (TWO, {**SOFTMAX, "weight": [1.0, float("nan"), 1.0]}, ValueError, ["weight", "nan"]),
    (TWO, {**SOFTMAX, "weight": []}, ValueError, ["weight"]),
    (TWO, {**SOFTMAX, "weight": "1"}, TypeError, ["weight", "'1'"]),
    (TWO, {**SOFTMAX, "weight": [[1.0, 2.0, 3.0]]}, ValueError, ["weight", r"\(1, 3\)"]),
    (TWO, {**SOFTMAX, "votes": True, "to_onehot_y": True}, ValueError, ["votes", "to_onehot_y"]),
    (TWO, {"sigmoid": True, "regions": [[1]], "to_onehot_y": True}, ValueError, ["regions", "to_onehot_y"]),
    (TWO, {**SOFTMAX, "regions": [[1], [2]]}, ValueError, ["regions", "sigmoid"]),
    (TWO, {"sigmoid": True, "regions": []}, ValueError, ["regions"]),
    (TWO, {"sigmoid": True, "regions": [[1], []]}, ValueError, ["regions"]),
    (TWO, {"sigmoid": True, "regions": [1, 2]}, (TypeError, ValueError), ["regions"]),
    (TWO, {"sigmoid": True, "regions": [[1.5]]}, (TypeError, ValueError), ["regions", "1.5"]),
    (TWO, {"sigmoid": True, "ignore_index": 0}, ValueError, ["ignore_index", "0"]),
    (TWO, {"sigmoid": True, "ignore_index": 1}, ValueError, ["ignore_index", "1"]),
    (TWO, {"sigmoid": True, "ignore_index": True, "to_onehot_y": True}, TypeError, ["ignore_index", "True"]),
    (TWO, {**SOFTMAX, "ignore_index": 2**63, "to_onehot_y": True}, ValueError, ["ignore_index", "int64", str(2**63)]),
    (TWO, {**SOFTMAX, "ignore_index": "x"}, TypeError, ["ignore_index", "x"]),
    (TWO, {**SOFTMAX, "include_background": "no"}, TypeError, ["include_background", "no"]),
    (TWO, {"softmax": "True"}, TypeError, ["softmax", "True"]),
    (TWO, {**SOFTMAX, "batch": 1}, TypeError, ["batch", "1"]),
    (TWO, {**SOFTMAX, "votes": "yes"}, TypeError, ["votes", "yes"]),
    (("JDTCELoss",), {**SOFTMAX, "lambda_ce": -1.0}, ValueError, ["lambda_ce|lambda_pixel", "-1"]),
    (("JDTCELoss",), {**SOFTMAX, "lambda_jdt": -1.0}, ValueError, ["lambda_jdt", "-1"]),
    (("JDTFocalLoss",), {**SOFTMAX, "lambda_focal": -1.0}, ValueError, ["lambda_focal", "-1"]),
    (("JDTFocalLoss",), {**SOFTMAX, "focal_gamma": 0.5}, ValueError, ["focal_gamma", "0.5"]),
    (("JDTFocalLoss",), {**SOFTMAX, "focal_alpha": 1.5}, ValueError, ["focal_alpha", "1.5"]),
    (("JaccardMetricLoss", "DiceSemimetricLoss"), {"alpha": 1.0}, TypeError, ["alpha"]),
]  # fmt: skip


def raises(error: type[Exception] | tuple[type[Exception], ...], words: Sequence[str], action: Callable[[], object]) -> None:
    with pytest.raises(error) as caught:
        action()
    for word in words:
        assert re.search(word, str(caught.value)), f"{word!r} is not in: {caught.value}"


@pytest.mark.parametrize(
    ("name", "arguments", "error", "words"),
    [pytest.param(name, a, e, w, id=f"{name}-{i}") for i, (names, a, e, w) in enumerate(CONSTRUCTORS) for name in names],
)
def test_wrong_arguments_of_constructors_are_refused(
    name: str,
    arguments: dict[str, Any],
    error: type[Exception] | tuple[type[Exception], ...],
    words: list[str],
) -> None:
    raises(error, words, lambda: getattr(losses, name)(**arguments))


# --- calls: (arguments, (input, target, mask, rater_weights), error, words) ---

C1 = {"x": torch.randn(2, 1, 4, 5), "t": torch.rand(2, 1, 4, 5)}
JAGGED = torch.nested.nested_tensor(list(X), layout=torch.jagged)
CALLS: list[tuple[dict[str, Any], tuple[Any, ...], type[Exception], list[str]]] = [
    # one channel
    (SOFTMAX, (C1["x"], C1["t"]), ValueError, ["softmax", "1", "sigmoid"]),
    ({"sigmoid": True, "to_onehot_y": True}, (C1["x"], C1["t"].round()), ValueError, ["to_onehot_y", "1"]),
    ({"sigmoid": True, "include_background": False}, (C1["x"], C1["t"]), ValueError, ["include_background", "1"]),
    # shapes
    (SOFTMAX, (X, INDEX), ValueError, ["target", r"\(2, 3, 4, 5\)", r"\(2, 1, 4, 5\)", "to_onehot_y"]),
    (SOFTMAX, (X, INDEX[:, 0]), ValueError, ["target", r"\(2, 4, 5\)", "to_onehot_y"]),
    ({**SOFTMAX, "to_onehot_y": True}, (X, SOFT), ValueError, ["target", r"\(2, 1, 4, 5\)", r"\(2, 3, 4, 5\)"]),
    ({**SOFTMAX, "to_onehot_y": True}, (X, INDEX[:, 0]), ValueError, ["target", r"\(2, 4, 5\)"]),
    ({**SOFTMAX, "to_onehot_y": True}, (X, INDEX[:1]), ValueError, ["target", r"\(1, 1, 4, 5\)"]),
    (SOFTMAX, (X, SOFT[:1]), ValueError, ["target", r"\(1, 3, 4, 5\)"]),
    (SOFTMAX, (X, SOFT[..., :4]), ValueError, ["target", r"\(2, 3, 4, 4\)"]),
    (SOFTMAX, (X, SOFT.movedim(1, -1)), ValueError, ["target", r"\(2, 4, 5, 3\)"]),
    ({**SOFTMAX, "votes": True}, (X, VOTES[..., :4]), ValueError, ["target", r"\(2, 4, 4, 4\)"]),
    ({**SOFTMAX, "votes": True}, (X, VOTES[:, :0]), ValueError, ["target", r"\(2, 0, 4, 5\)"]),
    ({"sigmoid": True, "regions": [[1], [2]]}, (X, INDEX), ValueError, ["regions", "2", "3"]),
    (SOFTMAX, (X[0, 0, 0], SOFT[0, 0, 0]), ValueError, ["input", r"\(5,\)"]),
    (SOFTMAX, (X[:, :0], SOFT[:, :0]), ValueError, ["input"]),
    # masks
    (SOFTMAX, (X, SOFT, torch.ones(2, 4, 5).bool()), ValueError, ["mask", r"\(2, 1, 4, 5\)", r"\(2, 4, 5\)"]),
    (SOFTMAX, (X, SOFT, torch.ones(1, 1, 4, 5).bool()), ValueError, ["mask", r"\(1, 1, 4, 5\)"]),
    (SOFTMAX, (X, SOFT, torch.ones(2, 1, 1, 1).bool()), ValueError, ["mask", r"\(2, 1, 1, 1\)"]),
    (SOFTMAX, (X, SOFT, torch.ones(2, 3, 4, 5).bool()), ValueError, ["mask", r"\(2, 3, 4, 5\)", "sigmoid"]),
    (SOFTMAX, (X, SOFT, torch.full((2, 1, 4, 5), 0.5)), ValueError, ["mask", "0.5", "weight"]),
    (SOFTMAX, (X, SOFT, torch.full((2, 1, 4, 5), 255, dtype=torch.uint8)), ValueError, ["mask", "255"]),
    (SOFTMAX, (X, SOFT, torch.full((2, 1, 4, 5), float("nan"))), ValueError, ["mask", "nan"]),
    (SOFTMAX, (X, SOFT, "mask"), TypeError, ["mask", "str"]),
    # dtypes
    (SOFTMAX, (X.long(), SOFT), TypeError, ["input", "int64"]),
    (SOFTMAX, (X.numpy(), SOFT), TypeError, ["input", "ndarray"]),
    (SOFTMAX, (X, SOFT.numpy()), TypeError, ["target", "ndarray"]),
    (SOFTMAX, (X, None), TypeError, ["target", "None"]),
    (SOFTMAX, (X + 0j, SOFT), TypeError, ["input", "complex"]),
    (SOFTMAX, (X, SOFT + 0j), TypeError, ["target", "complex"]),
    # layouts and dtypes without the operators of a loss
    (SOFTMAX, (X.to_sparse(), SOFT), TypeError, ["input", "dense", "sparse", r"input\.to_dense\(\)"]),
    (SOFTMAX, (X, SOFT.to_mkldnn()), TypeError, ["target", "dense", "mkldnn"]),
    (SOFTMAX, (X, SOFT, torch.ones(2, 1, 4, 5).to_sparse()), TypeError, ["mask", "dense", "sparse"]),
    (SOFTMAX, (JAGGED, SOFT), TypeError, ["input", "nested", r"torch\.stack\(input\.unbind\(\)\)"]),
    (SOFTMAX, (X.to(torch.float8_e4m3fn), SOFT), TypeError, ["input", "float8_e4m3fn", r"input\.float\(\)"]),
    (SOFTMAX, (X, SOFT.to(torch.float8_e5m2)), TypeError, ["target", "float8_e5m2"]),
    # rater weights
    ({**SOFTMAX, "votes": True}, (X, VOTES, None, torch.ones(3)), ValueError, ["rater_weights", r"\(3,\)", r"\(2, 4\)"]),
    ({**SOFTMAX, "votes": True}, (X, VOTES, None, -torch.ones(4)), ValueError, ["rater_weights", "-1"]),
    ({**SOFTMAX, "votes": True}, (X, VOTES, None, torch.full((4,), float("nan"))), ValueError, ["rater_weights", "nan"]),
    (SOFTMAX, (X, SOFT, None, torch.ones(4)), ValueError, ["rater_weights", "votes"]),
    ({**SOFTMAX, "votes": True}, (X, VOTES, None, [1, 1, 1, 1]), TypeError, ["rater_weights", "list"]),
    # lengths
    ({**SOFTMAX, "weight": [1.0, 2.0]}, (X, SOFT), ValueError, ["weight", "3", "2"]),
    ({**SOFTMAX, "classes": [3]}, (X, SOFT), ValueError, ["classes", "3"]),
    # values
    ({"sigmoid": True}, (X, SOFT * 255), ValueError, ["target", r"\[0, 1\]", "255"]),
    ({"sigmoid": True}, (X, (SOFT > 0.5).to(torch.uint8) * 255), ValueError, ["target", "255"]),
    ({"sigmoid": True}, (X, X * 4), ValueError, ["target", "logits"]),
    ({"sigmoid": True}, (X, SOFT * float("nan")), ValueError, ["target", "nan"]),
    (SOFTMAX, (X, SOFT / 2), ValueError, ["target", "sum", "0.5"]),
    (SOFTMAX, (X, torch.zeros(2, 3, 4, 5)), ValueError, ["target", "sum", "0"]),
    (SOFTMAX, (X, torch.full((2, 3, 4, 5), 255.0)), ValueError, ["target", "255", "ignore_index"]),
    ({**SOFTMAX, "to_onehot_y": True}, (X, INDEX + 1), ValueError, ["target", "0 to 2", "3"]),
    ({**SOFTMAX, "to_onehot_y": True}, (X, INDEX - 1), ValueError, ["target", "-1"]),
    ({**SOFTMAX, "to_onehot_y": True}, (X, INDEX.masked_fill(INDEX == 1, 255)), ValueError, ["target", "255", "ignore_index"]),
    ({**SOFTMAX, "to_onehot_y": True}, (X, INDEX * 0.7), ValueError, ["target", "whole|0.7", "to_onehot_y"]),
    ({**SOFTMAX, "votes": True}, (X, VOTES + 1), ValueError, ["target", "3"]),
    ({**SOFTMAX, "votes": True}, (X, VOTES + 0.5), ValueError, ["target", r"\d\.5", "whole"]),
    ({"sigmoid": True, "regions": [[1], [2], [4]]}, (X, INDEX - 1), ValueError, ["target", "-1"]),
]  # fmt: skip


@pytest.mark.parametrize("name", ALL)
def test_every_class_hands_its_options_on(name: str) -> None:
    """Each option reaches the one constructor: a wrong value is refused, whatever the class."""
    wrong = {
        "gamma": 0, "log_loss": 1, "norm": 3, "average": "images", "classes": "some", "threshold": -1, "label_smoothing": 2,
        "votes": 1, "regions": [], "sync": 1, "group": 1, "batch": 1, "weight": -1, "ignore_index": "x", "reduction": "average",
        "smooth_nr": -1, "smooth_dr": -1, "squared_pred": 1, "soft_label": False, "backend": "fast", "include_background": 1,
        "to_onehot_y": 1, "softmax": 1,
    }  # fmt: skip
    if name in FREE:
        wrong |= {"alpha": -1, "beta": -1}
    for option, value in wrong.items():
        with pytest.raises((TypeError, ValueError), match=f"^[a-z_, ]*{option}"):
            getattr(losses, name)(**{"sigmoid": True, option: value})
    # Python itself refuses it in JDTLoss, the one class without **options
    words = "unexpected keyword argument 'colour'" if name == "JDTLoss" else f"colour: expected an argument of {name}"
    with pytest.raises(TypeError, match=words):
        getattr(losses, name)(sigmoid=True, colour="red")


@pytest.mark.parametrize("name", TWO)
@pytest.mark.parametrize("number", range(len(CALLS)))
def test_wrong_calls_are_refused(name: str, number: int) -> None:
    arguments, given, error, words = CALLS[number]
    loss = getattr(losses, name)(**arguments)
    given = (*given, None, None)[:4]
    extra: dict[str, Any] = {} if given[3] is None else {"rater_weights": given[3]}
    raises(error, words, lambda: loss(*given[:3], **extra))


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
def test_quantised_labels() -> None:
    label = torch.quantize_per_tensor(SOFT, 0.01, 0, torch.quint8)
    raises(TypeError, ["target", "quint8", r"target\.dequantize\(\)"], lambda: losses.JDTLoss(softmax=True)(X, label))


@pytest.mark.parametrize("name", OVERLAP)
def test_logits_without_activation(name: str) -> None:
    raises(ValueError, ["input", r"\[0, 1\]", "sigmoid", "softmax"], lambda: getattr(losses, name)()(X * 3, SOFT))


@pytest.mark.parametrize("name", ALL)
def test_weight_lengths_without_background(name: str) -> None:
    """Overlap-only: the channels kept, as MONAI. With a pixel term, which sees channel 0: all of them."""
    right, wrong = ([1.0, 2.0, 3.0], [2.0, 3.0]) if name in COMPOUND else ([2.0, 3.0], [1.0, 2.0, 3.0])
    options: dict[str, Any] = {"softmax": True, "include_background": False}
    getattr(losses, name)(weight=right, **options)(X, SOFT)
    raises(ValueError, ["weight", str(len(right)), str(len(wrong))], lambda: getattr(losses, name)(weight=wrong, **options)(X, SOFT))


# --- the switch ---


def test_static_checks_are_never_switched_off() -> None:
    with value_checks("off"):
        raises(ValueError, ["target"], lambda: losses.JDTLoss(softmax=True)(X, SOFT[:1]))
        raises(TypeError, ["input"], lambda: losses.JDTLoss(softmax=True)(X.long(), SOFT))
        raises(ValueError, ["weight"], lambda: losses.JDTLoss(softmax=True, weight=[1.0])(X, SOFT))
        raises(ValueError, ["mask"], lambda: losses.JDTLoss(softmax=True)(X, SOFT, torch.ones(1, 1, 4, 5)))


def test_value_checks_off_and_on() -> None:
    loss = losses.JDTLoss(sigmoid=True)
    with value_checks("off"):
        assert loss(X, SOFT * 255).isfinite()
        with value_checks("on"):
            raises(ValueError, ["target"], lambda: loss(X, SOFT * 255))
        assert loss(X, SOFT * 255).isfinite()
    raises(ValueError, ["target"], lambda: loss(X, SOFT * 255))
    with pytest.raises(RuntimeError, match="stop"), value_checks("off"):
        raise RuntimeError("stop")
    raises(ValueError, ["target"], lambda: loss(X, SOFT * 255))  # back also after an error
    raises(ValueError, ["value_checks", "sometimes"], lambda: value_checks("sometimes"))


@pytest.mark.parametrize("name", ["JDTLoss", *COMPOUND])
@pytest.mark.parametrize("wrong", [3, 255, -1])
@pytest.mark.parametrize("form", [{"to_onehot_y": True}, {"votes": True}])
def test_an_index_out_of_range_is_nan_where_values_are_not_read(name: str, wrong: Any, form: dict[str, Any]) -> None:
    """Never another class: a clamp would make 255 class C - 1 and -1 class 0."""
    index = INDEX.clone() if "to_onehot_y" in form else VOTES.clone()
    index[0, 0, 0, 0] = wrong
    with value_checks("off"):
        assert getattr(losses, name)(softmax=True, **form)(X, index).isnan()
        ignored = getattr(losses, name)(softmax=True, ignore_index=wrong, **form)(X, index)
        assert ignored.isfinite()


def test_values_that_do_not_count_are_not_checked() -> None:
    mask = torch.ones(2, 1, 4, 5).bool()
    mask[0, 0, 0, 0] = False
    bad = SOFT.clone()
    bad[0, :, 0, 0] = 255
    with value_checks("on"):
        activations: list[dict[str, Any]] = [{"softmax": True}, {"sigmoid": True}]
        for options in activations:
            assert losses.JDTCELoss(**options)(X, bad, mask).isfinite()
        assert losses.JDTLoss()(torch.where(mask, torch.sigmoid(X), 17.0), SOFT, mask).isfinite()
        index = INDEX.clone()
        index[0, 0, 0, 0] = 99
        assert losses.JDTCELoss(softmax=True, to_onehot_y=True)(X, index, mask).isfinite()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("channels", [2, 3, 10, 40])
def test_rounded_softmax_labels_pass(dtype: torch.dtype, channels: int) -> None:
    """The sum of a legal label in bfloat16 is not exactly 1; 8-bit labels are off by up to C / 512."""
    label = torch.softmax(torch.randn(4, channels, 50), 1)
    assert losses.JDTCELoss(softmax=True)(torch.randn(4, channels, 50), label.to(dtype)).isfinite()
    if channels == 2:
        eight_bits = torch.stack([(label[:, 0] * 255).round() / 255, (label[:, 1] * 255).round() / 255], 1)
        assert losses.JDTCELoss(softmax=True)(torch.randn(4, channels, 50), eight_bits).isfinite()


def test_nothing_warns() -> None:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in ALL:
            getattr(losses, name)(softmax=True, to_onehot_y=True)(X, INDEX)
            getattr(losses, name)(sigmoid=True)(C1["x"], C1["t"])
