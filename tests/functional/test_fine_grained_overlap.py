"""Fine-grained overlap against loops over images, classes and voxels, through the metric and its handler."""

import math
from collections.abc import Sequence, Set
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.handlers import from_engine

from monai_jdt.functional.fine_grained_overlap import overlap_counts
from monai_jdt.handlers import FineGrainedOverlapHandler
from monai_jdt.metrics import FineGrainedOverlap
from tests.present import tensor_of

NAN = float("nan")

#: The voxels of prediction and label in one class.
Pair = tuple[Set[object], Set[object]]


def case(channels: int, images: int = 7, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Labels in which some images lack some classes, and the last class is nowhere."""
    rng = np.random.default_rng(seed)
    present = [rng.permutation(max(channels - 1, 1))[: rng.integers(1, max(channels, 2))] for _ in range(images)]
    if channels == 1:
        label = (rng.random((images, 1, 6, 5)) < 0.3) * (np.arange(images) % 3 > 0)[:, None, None, None]
        predicted = (rng.random(label.shape) < 0.3) * (np.arange(images) > 1)[:, None, None, None]
        return torch.from_numpy(predicted).int(), torch.from_numpy(label).int()
    index = np.stack([rng.choice(classes, size=(6, 5)) for classes in present])
    other = rng.integers(0, channels, size=index.shape)
    predicted = np.where(rng.random(index.shape) < 0.4, other, index)
    predictions, labels = (torch.from_numpy(np.moveaxis(np.eye(channels, dtype=np.int32)[i], -1, 1)) for i in (predicted, index))
    return predictions, labels


def ratio(sets: Pair, kind: str) -> float:
    both, found, true = len(sets[0] & sets[1]), len(sets[0]), len(sets[1])
    below = {"iou": len(sets[0] | sets[1]), "dice": found + true, "accuracy": true}[kind]
    return (2 if kind == "dice" else 1) * both / below if below else NAN


def mean(values: Sequence[float]) -> float:
    found = [value for value in values if not math.isnan(value)]
    return sum(found) / len(found) if found else NAN


def worst_mean(values: Sequence[float], percent: int) -> float:
    found = sorted(value for value in values if not math.isnan(value))
    return mean(found[: max(1, len(found) * percent // 100)]) if found else NAN


def oracle(predicted: torch.Tensor, label: torch.Tensor, kind: str, average: str, percents: list[int] | range, empty: float) -> float:
    found, true = predicted.flatten(2).numpy(), label.flatten(2).numpy()
    images, channels = true.shape[:2]
    sets: list[list[Pair]] = [
        [({v for v in range(30) if p[v]}, {v for v in range(30) if t[v]}) for p, t in zip(found[n], true[n], strict=True)]
        for n in range(images)
    ]

    def score(pair: Pair) -> float:
        if not pair[1] and channels > 1:
            return NAN
        return empty if not pair[0] and not pair[1] else ratio(pair, kind)

    if average == "dataset":
        pooled = [[{(n, v) for n in range(images) for v in sets[n][c][side]} for side in (0, 1)] for c in range(channels)]
        return mean([score((p, t)) for p, t in pooled])
    table = [[score(pair) for pair in row] for row in sets]
    columns: list[Sequence[float]] = [[mean(row) for row in table]] if average == "image" else list(zip(*table, strict=True))
    return mean([mean([worst_mean(column, q) for q in percents]) for column in columns])


@pytest.mark.parametrize("channels", [1, 2, 4])
@pytest.mark.parametrize("kind", ["iou", "dice", "accuracy"])
@pytest.mark.parametrize("average", ["dataset", "image", "class"])
def test_every_average_is_the_loops(channels: int, kind: str, average: str) -> None:
    predicted, label = case(channels)
    for empty, value in (("undefined", NAN), ("one", 1.0)):
        for worst, percents in ((None, [100]), (30, [30]), (1, [1]), ("averaged", range(10, 101, 10))):
            if average == "dataset" and worst is not None:
                continue
            metric = FineGrainedOverlap(kind=kind, average=average, worst=worst, empty=empty)
            metric(predicted[:3], label[:3])
            metric(list(predicted[3:]), list(label[3:]))
            expected = oracle(predicted, label, kind, average, percents, value)
            assert tensor_of(metric.aggregate()).item() == pytest.approx(expected, rel=1e-12, nan_ok=True)


def test_a_class_in_no_label_is_undefined_and_reductions() -> None:
    predicted, label = case(4)
    metric = FineGrainedOverlap(reduction="none", get_not_nans=True)
    metric(predicted, label)
    classes, known = metric.aggregate()
    assert classes.isnan().tolist() == [False, False, False, True]
    assert known.tolist() == [1, 1, 1, 0]
    total, number = metric.aggregate("sum")
    assert total.item() == pytest.approx(3 * metric.aggregate("mean")[0].item())
    assert number == 3
    with pytest.raises(ValueError, match="reduction: expected 'mean', 'sum' or 'none' for scores of a data set"):
        metric.aggregate("mean_batch")
    by_image = FineGrainedOverlap(average="image", reduction="mean_channel")
    by_image(predicted, label)
    assert tensor_of(by_image.aggregate()).shape == (7,)
    assert tensor_of(by_image.aggregate("mean")).item() == pytest.approx(tensor_of(by_image.aggregate()).mean().item())


def test_accuracy_of_one_channel_is_undefined_where_the_label_is_empty() -> None:
    found, nothing = torch.tensor([[[1, 0]]]), torch.zeros(1, 1, 2, dtype=torch.int64)
    for empty, value in (("undefined", NAN), ("one", 1.0)):
        for kind, false_positive in (("iou", 0.0), ("dice", 0.0), ("accuracy", NAN)):
            metric = FineGrainedOverlap(kind=kind, empty=empty, average="image", reduction="none")
            metric(torch.cat([found, nothing]), torch.cat([nothing, nothing]))
            assert tensor_of(metric.aggregate()).flatten().tolist() == pytest.approx([false_positive, value], nan_ok=True)


@pytest.mark.parametrize("average", ["dataset", "image", "class"])
@pytest.mark.parametrize("kind", ["iou", "dice", "accuracy"])
def test_an_image_in_which_nothing_counts_is_undefined(kind: str, average: str) -> None:
    """Two empty masks score 1 by `empty`, but of an ignored image it is not known that its label is empty."""
    found = torch.tensor([[[1, 0, 0]]])
    metric = FineGrainedOverlap(kind=kind, empty="one", average=average, ignore_index=-1)
    metric(found, torch.full((1, 1, 3), -1))
    assert tensor_of(metric.aggregate()).isnan()
    metric(found * 0, torch.tensor([[[0, 0, -1]]]))
    assert metric.aggregate() == 1
    metric(torch.zeros(1, 1, 0), torch.zeros(1, 1, 0))  # no voxel at all
    assert metric.aggregate() == 1


@pytest.mark.parametrize("average", ["dataset", "image", "class"])
def test_undefined_scores_spread(average: str) -> None:
    predicted, label = case(4)
    metric = FineGrainedOverlap(average=average, undefined="spread")
    metric(predicted, label)  # the last class is in no label
    assert math.isnan(tensor_of(metric.aggregate()))
    assert tensor_of(metric.aggregate("none")).isnan().any()
    metric.reset()
    metric(predicted[:, :1], torch.ones_like(label[:, :1]))  # every score is defined
    other = FineGrainedOverlap(average=average)
    other(predicted[:, :1], torch.ones_like(label[:, :1]))
    assert torch.equal(tensor_of(metric.aggregate()), tensor_of(other.aggregate()))


def test_without_the_background_one_of_two_channels_is_still_a_class() -> None:
    predicted, label = torch.tensor([[[1, 0], [0, 1]]]), torch.tensor([[[1, 1], [0, 0]]])
    whole, part = FineGrainedOverlap(reduction="none"), FineGrainedOverlap(False, reduction="none")
    whole(predicted, label)
    part(predicted, label)
    assert tensor_of(whole.aggregate()).tolist() == pytest.approx([0.5, NAN], nan_ok=True)
    assert math.isnan(tensor_of(part.aggregate()).item())


def test_probabilities_are_cut_and_ignored_voxels_do_not_count() -> None:
    prob = torch.tensor([[[0.2, 0.6, 0.4], [0.5, 0.3, 0.4], [0.3, 0.1, 0.2]]])
    label = torch.tensor([[[0, 1, -1], [1, 0, -1], [0, 0, -1]]])
    assert overlap_counts(prob, label, FineGrainedOverlap(discretize="argmax").discretize, ignore_index=-1).tolist() == [
        [[1, 1, 1, 2], [1, 1, 1, 2], [0, 0, 0, 2]]
    ]
    assert overlap_counts(prob, label, FineGrainedOverlap(discretize="threshold").discretize, ignore_index=-1).tolist() == [
        [[1, 1, 1, 2], [0, 0, 1, 2], [0, 0, 0, 2]]
    ]
    for arguments, words in (
        ((prob, label.clamp(0)), "y_pred: expected 0 and 1, got 0.2. Fix: pass discretize="),
        (((prob > 0.5), prob), "y: expected 0 and 1, got 0.2. Fix: fuse the raters"),
        (((prob > 0.5), label[:, :1]), r"y: expected shape \(1, 3, 3\)"),
    ):
        with pytest.raises(ValueError, match=words):
            FineGrainedOverlap()(*arguments)
    with pytest.raises(ValueError, match="discretize: expected 'threshold' for one channel"):
        FineGrainedOverlap(discretize="argmax")(prob[:, :1], label[:, :1].clamp(0))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"worst": 10}, "worst: expected None with average='dataset'"),
        ({"worst": 0, "average": "image"}, "worst: expected percent from 1 to 100, got 0"),
        ({"worst": "all", "average": "image"}, "worst: expected None, 'averaged', or a whole number"),
        ({"worst": 5, "average": "class", "reduction": "none"}, "reduction: expected 'mean' with `worst`"),
        ({"reduction": "mean_batch"}, "reduction: expected 'mean', 'sum' or 'none'"),
        ({"kind": "jaccard"}, "kind: expected one of 'iou'"),
    ],
)
def test_arguments_that_contradict(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        FineGrainedOverlap(**arguments)


def test_an_empty_run_and_the_handler() -> None:
    assert tensor_of(FineGrainedOverlap().aggregate()).isnan().all()
    predicted, label = case(4)
    handler = FineGrainedOverlapHandler(average="class", output_transform=from_engine(["pred", "label"]))
    engine = Engine(lambda _, batch: batch)
    handler.attach(engine, "miou_c")
    engine.run([[{"pred": p, "label": t}] for p, t in zip(predicted, label, strict=True)])
    assert engine.state.metrics["miou_c"] == pytest.approx(oracle(predicted, label, "iou", "class", [100], NAN))
    assert vars(engine.state)["metric_details"]["miou_c"].shape == (7, 4, 4)
