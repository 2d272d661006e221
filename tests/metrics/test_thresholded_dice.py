"""The metric in MONAI's conventions, its handler in an engine, and both in a config."""

import copy
import json
import math
import pickle
from builtins import TypeError, ValueError
from typing import Any

import pytest
import torch
from ignite.engine import Engine
from ignite.engine.events import State
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.handlers import from_engine

from monai_jdt.functional.thresholded_dice import threshold_rule, thresholded_dice
from monai_jdt.handlers import MeanThresholdedDice
from monai_jdt.metrics import ThresholdedDice
from tests.present import tensor_of

# class 0: above .2 {0, 1} and {0}, 2/3; above .6 {0} and {0}, 1. Class 1: nothing anywhere
P = torch.tensor([[[0.9, 0.5], [0.0, 0.0]]])
M = torch.tensor([[[1.0, 0.0], [0.0, 0.0]]])
RULE: dict[str, Any] = {"thresholds": [0.2, 0.6]}
SCORE = (2 / 3 + 1) / 2


def test_calls_accumulate_and_reset_forgets() -> None:
    metric = ThresholdedDice(**RULE)
    scores = metric(y_pred=P, y=M)
    assert scores[0, 0].item() == pytest.approx(SCORE)
    assert math.isnan(scores[0, 1])
    metric(M, M)
    assert tensor_of(metric.aggregate()).item() == pytest.approx((SCORE + 1) / 2)
    assert tensor_of(metric.aggregate()).dtype == torch.float64
    assert tensor_of(metric.aggregate("mean_batch")).tolist() == pytest.approx([(SCORE + 1) / 2, math.nan], nan_ok=True)
    metric.reset()
    metric(M, M)
    assert tensor_of(metric.aggregate()).item() == 1


def test_arguments_reach_the_score() -> None:
    p, m = torch.rand(3, 4, 5, 6), torch.rand(3, 4, 5, 6)
    metric = ThresholdedDice(False, "none", thresholds="mrnet", comparison=">=", both_empty="zero")
    metric(p, m)
    expected = thresholded_dice(p, m, threshold_rule("mrnet", ">=", "zero"))[:, 1:]
    assert torch.equal(tensor_of(metric.aggregate()), expected)
    assert not torch.equal(expected, thresholded_dice(p, m)[:, 1:])


def test_undefined_scores_are_counted_and_may_spread() -> None:
    metric = ThresholdedDice(get_not_nans=True, reduction="mean_batch", **RULE)
    metric(P, M)
    result, number = metric.aggregate()
    assert result.tolist() == pytest.approx([SCORE, math.nan], nan_ok=True)
    assert number.tolist() == [1, 0]
    metric = ThresholdedDice(undefined="spread", **RULE)
    metric(P, M)
    assert tensor_of(metric.aggregate()).isnan()


def test_an_empty_run_is_undefined() -> None:
    metric = ThresholdedDice(get_not_nans=True)
    metric(torch.zeros(0, 2, 4), torch.zeros(0, 2, 4))
    metric([], [])
    result, number = metric.aggregate()
    assert math.isnan(result)
    assert number == 0
    assert metric.get_buffer() is None


def test_lists_of_images_of_different_sizes() -> None:
    metric = ThresholdedDice(reduction="none", **RULE)
    metric([P[0], MetaTensor(torch.ones(2, 7))], [M[0], torch.ones(2, 7)])
    scores = metric.aggregate()
    assert type(scores) is torch.Tensor
    assert scores.flatten().tolist() == pytest.approx([SCORE, math.nan, 1, 1], nan_ok=True)


@pytest.mark.parametrize(
    ("p", "m", "error", "says"),
    [
        ([P[0], P[0]], [M[0]], ValueError, "expected a label for each of the 2 predictions, got 1 items"),
        ([P[0]], None, ValueError, "expected a label for each of the 1 predictions, got None"),
        ([P[0]], [M[0].numpy()], TypeError, "y: expected a torch.Tensor, got ndarray"),
        (P, None, TypeError, "y: expected a torch.Tensor, got (None|ndarray)"),
        (P, M.numpy(), TypeError, "y: expected a torch.Tensor, got (None|ndarray)"),
        (P, M[:, :1], ValueError, "y: expected shape"),
        (P + 2, M, ValueError, "apply sigmoid or softmax"),
    ],
)
def test_calls_that_do_not_fit(
    p: list[torch.Tensor] | torch.Tensor, m: list[torch.Tensor] | torch.Tensor, error: type[ValueError], says: str
) -> None:
    metric = ThresholdedDice()
    with pytest.raises(error, match=says):
        metric(p, m)
    assert metric.get_buffer() is None


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"include_background": 1}, TypeError, "include_background: expected True or False, got int 1"),
        ({"get_not_nans": "yes"}, TypeError, "get_not_nans: "),
        ({"reduction": "median"}, ValueError, "reduction: expected one of .*'mean_batch'.* got 'median'"),
        ({"undefined": "zero"}, ValueError, r"undefined: expected one of 'leave_out', 'spread', got 'zero'"),
        ({"thresholds": [1.5]}, ValueError, "thresholds: "),
    ],
)
def test_arguments_are_checked_at_once(arguments: dict[str, Any], error: type[TypeError | ValueError], says: str) -> None:
    with pytest.raises(error, match=says):
        ThresholdedDice(**arguments)


def test_copies_go_on_counting() -> None:
    metric = ThresholdedDice(**RULE)
    metric(P, M)
    for other in (copy.deepcopy(metric), pickle.loads(pickle.dumps(metric))):
        other(M, M)
        assert tensor_of(other.aggregate()).item() == pytest.approx((SCORE + 1) / 2)
    assert tensor_of(metric.aggregate()).item() == pytest.approx(SCORE)


def run(handler: MeanThresholdedDice, batches: list[list[dict[str, Any]]]) -> State:
    engine = Engine(lambda _, batch: batch)
    handler.attach(engine, "val_qubiq_dice")
    engine.run(batches)
    return engine.state


def test_the_handler_reports_a_run() -> None:
    # one case a batch, as decollated items of an evaluator
    batches = [[{"prob": P[0], "label": M[0]}], [{"prob": M[0], "label": M[0]}]]
    state = run(MeanThresholdedDice(output_transform=from_engine(["prob", "label"]), **RULE), batches)
    assert state.metrics["val_qubiq_dice"] == pytest.approx((SCORE + 1) / 2)
    assert vars(state)["metric_details"]["val_qubiq_dice"].shape == (2, 2)


def test_the_handler_forgets_between_runs_and_reports_undefined() -> None:
    handler = MeanThresholdedDice(save_details=False, **RULE)
    engine = Engine(lambda _, batch: batch)
    handler.attach(engine, "dice")
    engine.run([(P, M)])
    assert engine.state.metrics["dice"] == pytest.approx(SCORE)
    engine.run([(P[:, 1:], M[:, 1:])])
    assert math.isnan(engine.state.metrics["dice"])


@pytest.mark.parametrize("prefix", ["", "monai_jdt.handlers."])
def test_a_config_names_it_short_or_in_full(prefix: str) -> None:
    config = {
        "imports": ["$import monai_jdt"],
        "metric": {"_target_": f"{prefix}MeanThresholdedDice", "thresholds": [0.2, 0.6], "comparison": ">=", "reduction": "mean_batch"},
    }
    handler = ConfigParser(json.loads(json.dumps(config))).get_parsed_content("metric")
    assert type(handler) is MeanThresholdedDice
    metric = handler.metric_fn
    assert isinstance(metric, ThresholdedDice)
    assert metric.rule == threshold_rule([0.2, 0.6], ">=")
    assert metric.reduction == "mean_batch"
