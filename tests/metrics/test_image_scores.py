"""The metrics against raters in MONAI's conventions: lists, weights, reductions, empty runs, copies, handlers, configs, and ranks."""

import copy
import json
import math
import pickle
from typing import Any

import pytest
import torch
import torch.distributed as dist
from ignite.engine import Engine
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.handlers import from_engine

import monai_jdt.handlers
import monai_jdt.metrics
from monai_jdt.metrics import RaterAgreement, SoftDice, VolumeCRPS
from tests.metrics.rater_cases import RaterCase, rater_case
from tests.present import present

BY_PROBABILITY = [
    "RaterCalibrationError",
    "RaterBrierScore",
    "RaterNLL",
    "VolumeCRPS",
    "DisagreementCorrelation",
    "SoftDice",
    "SoftJaccard",
    "ThresholdedDice",
]
BY_SAMPLES = ["RaterDice", "GeneralizedEnergyDistance"]
#: What a metric needs to be told.
OWN: dict[str, dict[str, Any]] = {
    "SoftDice": {"votes": True},
    "SoftJaccard": {"votes": True},
    "ThresholdedDice": {"votes": True},
    "RaterAgreement": {"num_classes": 3},
    "RaterCalibrationError": {"level": "image"},
}
EVERY = [*BY_PROBABILITY, *BY_SAMPLES, "RaterAgreement"]


def build(name: str, **options: Any) -> Any:
    return getattr(monai_jdt.metrics, name)(**OWN.get(name, {}), **options)


def inputs(name: str, case: RaterCase) -> tuple[torch.Tensor, torch.Tensor | None]:
    """`y_pred` and `y` of a metric."""
    if name == "RaterAgreement":
        return case.votes, None
    return case.samples if name in BY_SAMPLES else case.prob, case.votes


@pytest.mark.parametrize("name", EVERY)
def test_a_list_is_a_batch_and_calls_accumulate(name: str) -> None:
    case = rater_case("classes", 1, equal=True)
    y_pred, y = inputs(name, case)
    metric = build(name, reduction="none")
    batch = metric(y_pred, y, case.weights)
    assert metric.get_buffer().shape == batch.shape
    listed = metric(list(y_pred), None if y is None else list(y), list(present(case.weights)))
    assert torch.equal(batch, listed)
    whole = metric.aggregate()
    assert torch.equal(whole, torch.cat([batch, batch]))
    assert torch.equal(metric.aggregate(), whole)  # twice
    other = pickle.loads(pickle.dumps(copy.deepcopy(metric)))
    assert torch.equal(other.aggregate(), whole)
    metric.reset()
    assert math.isnan(metric.aggregate("mean"))


@pytest.mark.parametrize("name", EVERY)
def test_items_of_a_list_have_their_own_raters_and_metatensors_are_plain(name: str) -> None:
    case = rater_case("classes", 0)
    y_pred, _ = inputs(name, case)
    metric = build(name, reduction="none")
    if name == "RaterAgreement":
        got = metric([MetaTensor(y_pred[0]), y_pred[1, :2]])
        alone = torch.cat([build(name)(y_pred[:1]), build(name)(y_pred[1:, :2])])
    else:
        got = metric([MetaTensor(y_pred[0]), y_pred[1]], [case.votes[0], MetaTensor(case.votes[1, :2])])
        alone = torch.cat([build(name)(y_pred[:1], case.votes[:1]), build(name)(y_pred[1:], case.votes[1:, :2])])
    assert type(got) is torch.Tensor
    assert torch.equal(got, alone)


@pytest.mark.parametrize("name", EVERY)
def test_an_empty_run_is_undefined(name: str) -> None:
    metric = build(name, get_not_nans=True)
    metric([], None if name == "RaterAgreement" else [])
    result, number = metric.aggregate()
    assert math.isnan(result)
    assert number == 0


@pytest.mark.parametrize("name", ["RaterBrierScore", "SoftDice", "ThresholdedDice", *BY_SAMPLES])
def test_the_background_is_left_out(name: str) -> None:
    case = rater_case("classes", 0)
    y_pred, y = inputs(name, case)
    assert torch.equal(build(name, include_background=False)(y_pred, y), build(name)(y_pred, y)[:, 1:])
    with pytest.raises(ValueError, match="include_background"):
        build(name, include_background=False)(y_pred[:, :, :1] if name in BY_SAMPLES else y_pred[:, :1], y)


def test_wrong_calls_keep_nothing() -> None:
    metric = build("RaterBrierScore")
    case = rater_case("classes", 0)
    for arguments, words in (
        ((list(case.prob), [case.votes[0]]), "y: expected a label for each of the 2 predictions, got 1 items"),
        ((list(case.prob), None), "y: expected a label for each of the 2 predictions, got None"),
        ((list(case.prob), list(case.votes), [None]), "rater_weights: expected weights for each of the 2 predictions, got 1 items"),
    ):
        with pytest.raises(ValueError, match=words):
            metric(*arguments)
    with pytest.raises(TypeError, match=r"y: expected a torch.Tensor, got ndarray"):
        metric(case.prob, case.votes.numpy())
    assert metric.get_buffer() is None
    for wrong, words in (
        ({}, "neither"),
        ({"num_classes": 2, "regions": [[1]]}, "both"),
        ({"num_classes": 0}, "num_classes: "),
        ({"num_classes": 1, "include_background": False}, "include_background=False: expected at least 2 channels"),
        ({"regions": [[1]], "include_background": False}, "include_background=False: expected at least 2 channels"),
    ):
        with pytest.raises(ValueError, match=words):
            RaterAgreement(**wrong)
    with pytest.raises(TypeError, match=r"y: expected a torch\.Tensor, got None"):
        SoftDice()(case.prob)


def test_volumes_use_the_spacing_of_each_image() -> None:
    votes = torch.zeros(2, 2, 2, 5, dtype=torch.int64)
    votes[0] = 1
    prob = torch.full((1, 2, 2, 5), 0.5)
    images = [MetaTensor(prob, affine=torch.diag(torch.tensor([step, step, step, 1.0]))) for step in (1, 10)]
    scores = VolumeCRPS()(images, [votes] * 2)
    # 10 voxels against 20 and 0: E|V - v| = 10, E|V - V'| = 10, so 5 voxels, of .001 and of 1 ml
    assert scores.flatten().tolist() == pytest.approx([0.005, 5.0])
    assert VolumeCRPS(spacing=[10, 10, 10])(images[:1], [votes]).item() == pytest.approx(5.0)
    assert VolumeCRPS()(MetaTensor(prob[None], affine=images[1].affine), votes[None]).item() == pytest.approx(5.0)


def test_a_sagittal_picture_has_the_edges_of_its_own_axes() -> None:
    votes = torch.ones(1, 1, 2, 5, dtype=torch.int64)
    # its axes run along y and z of space, in steps of 2 and 30 mm; a voxel is 60 mm2, .6 cm2
    affine = torch.tensor([[0.0, 0, 7, 0], [2, 0, 0, 0], [0, 30, 0, 0], [0, 0, 0, 1]])
    picture, batch = MetaTensor(torch.zeros(1, 2, 5), affine=affine), MetaTensor(torch.zeros(1, 1, 2, 5), affine=affine[None])
    assert VolumeCRPS()([picture], list(votes)).item() == pytest.approx(6.0)
    assert VolumeCRPS()(batch, votes).item() == pytest.approx(6.0)


def test_spacing_for_all_images_or_for_each() -> None:
    prob, votes = torch.zeros(2, 1, 2, 5), torch.ones(2, 1, 2, 5, dtype=torch.int64)
    rows = [[10, 10], [10, 20]]  # 1 and 2 cm2, 10 voxels
    assert VolumeCRPS(spacing=rows)(prob, votes).flatten().tolist() == pytest.approx([10.0, 20.0])
    assert VolumeCRPS(spacing=rows)(list(prob), list(votes)).flatten().tolist() == pytest.approx([10.0, 20.0])
    assert VolumeCRPS(spacing=[10, 20])(list(prob), list(votes)).flatten().tolist() == pytest.approx([20.0, 20.0])
    for images in (1, 2):
        with pytest.raises(ValueError, match="spacing: expected"):
            VolumeCRPS(spacing=[*rows, [1, 1]])(list(prob[:images]), list(votes[:images]))
    wrong: Any
    for wrong in (1.0, "11", [[1.0, 1.0], 2.0]):
        with pytest.raises(TypeError, match="spacing: expected voxel sizes, mm along each axis of space, or a row"):
            VolumeCRPS(spacing=wrong)
    for wrong in ([], [1.0, -1.0], [[1.0, 0.0]]):
        with pytest.raises(ValueError, match="spacing: expected"):
            VolumeCRPS(spacing=wrong)


@pytest.mark.parametrize("name", EVERY)
def test_handlers_by_config_with_the_raters_weights(name: str) -> None:
    case = rater_case("classes", 1, equal=True)
    y_pred, y = inputs(name, case)
    handler_name = "RaterCalibrationErrorHandler" if name == "RaterCalibrationError" else f"Mean{name}"
    config = {"imports": ["$import monai_jdt"], "metric": {"_target_": f"monai_jdt.handlers.{handler_name}", **OWN.get(name, {})}}
    handler = ConfigParser(json.loads(json.dumps(config))).get_parsed_content("metric")
    keys = ["votes"] if name == "RaterAgreement" else ["pred", "votes", "weights"]
    handler._output_transform = from_engine(keys)
    engine = Engine(lambda _, batch: batch)
    handler.attach(engine, "score")
    engine.run([[{"pred": y_pred[i], "votes": case.votes[i], "weights": present(case.weights)[i]}] for i in range(2)])
    metric = build(name)
    scores = metric(y_pred, y, None if name == "RaterAgreement" else case.weights)
    assert engine.state.metrics["score"] == pytest.approx(metric.aggregate().item(), nan_ok=True)
    assert torch.equal(vars(engine.state)["metric_details"]["score"], scores)


def test_ranks_with_unequal_parts_and_none_equal_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gathering of three ranks by a stand-in: two cases, one, and none. The long tier has real processes."""
    case = rater_case("classes", 0)
    alone = build("RaterBrierScore", reduction="mean_batch")
    scored = [alone(case.prob, case.votes), alone(case.prob[:1], case.votes[:1])]
    rows: list[torch.Tensor | None] = [*scored, None]

    def gather(every: list[torch.Tensor | None], own: torch.Tensor | None) -> None:
        every[:] = rows
        assert own is None or any(row is not None and torch.equal(own, row) for row in rows)

    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 3)
    monkeypatch.setattr(dist, "all_gather_object", gather)
    together = torch.cat(scored)
    for part in ((case.prob, case.votes), (case.prob[:1], case.votes[:1]), None):
        metric = build("RaterBrierScore", reduction="mean_batch")
        if part is not None:
            metric(*part)
        for _ in range(2):
            torch.testing.assert_close(metric.aggregate(), together.mean(0), rtol=0, atol=1e-15)
    rows[:] = [None] * 3
    assert math.isnan(build("RaterBrierScore").aggregate())
