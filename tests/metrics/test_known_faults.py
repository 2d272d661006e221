"""Faults that implementations of these scores in use have, each as a test that ours passes.

They were seen in the fine-grained averages, accuracies and calibration errors of research code, and in MONAI's and torchmetrics' scores
where the test says so.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from monai_jdt.functional.fine_grained_overlap import overlap_counts
from monai_jdt.metrics import FineGrainedOverlap, RaterCalibrationError, SoftDice, SoftJaccard
from tests.present import tensor_of

KINDS = ("iou", "dice", "accuracy")
AVERAGES = ("dataset", "image", "class")


def one_hot(index: torch.Tensor, classes: int) -> torch.Tensor:
    return torch.stack([(index == c).int() for c in range(classes)], 1)


def score(metric: Any, *given: torch.Tensor) -> float:
    metric.reset()
    metric(*given)
    value = metric.aggregate().item()
    assert tensor_of(metric.aggregate()).item() == pytest.approx(value, nan_ok=True)  # twice
    return value


@pytest.fixture
def index() -> torch.Tensor:
    """Class maps of two images, without class 2."""
    return torch.tensor([[0, 0, 1, 1, 1, 0], [0, 1, 1, 0, 0, 0]])


@pytest.fixture
def found() -> torch.Tensor:
    return torch.tensor([[0, 1, 1, 1, 0, 0], [0, 1, 1, 0, 0, 0]])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("average", AVERAGES)
@pytest.mark.parametrize("worst", [None, "averaged", 1])
def test_a_class_that_no_image_has_leaves_no_trace(
    index: torch.Tensor, found: torch.Tensor, kind: str, average: str, worst: str | float | None
) -> None:
    """The fault: a placeholder of 10^6 for an undefined ratio was divided like a score, and the mean over quantiles was 3 * 10^7."""
    if average == "dataset" and worst is not None:
        return
    metric = FineGrainedOverlap(kind=kind, average=average, worst=worst)
    two, three = (score(metric, one_hot(found, classes), one_hot(index, classes)) for classes in (2, 3))
    assert 0 <= two <= 1
    assert three == two
    # one false positive of the absent class: it has no score of its own, so the others change by the lost voxel only
    found[0, 0] = 2
    with_false_positive = score(metric, one_hot(found, 3), one_hot(index, 3))
    assert with_false_positive == score(metric, one_hot(found, 3)[:, :2], one_hot(index, 3)[:, :2]) < two


@pytest.mark.parametrize("average", AVERAGES)
def test_accuracy_needs_no_option(index: torch.Tensor, found: torch.Tensor, average: str) -> None:
    """The fault: with the default `ignore_index=None` every call ended in an AttributeError."""
    # class 0 is found at 2 of 3 and 4 of 4 voxels, class 1 at 2 of 3 and 2 of 2
    expected = {"dataset": (6 / 7 + 4 / 5) / 2, "image": (2 / 3 + 1) / 2, "class": (2 / 3 + 1) / 2}[average]
    assert score(FineGrainedOverlap(kind="accuracy", average=average), one_hot(found, 2), one_hot(index, 2)) == pytest.approx(expected)


def test_one_image_without_foreground_does_not_make_the_mean_undefined() -> None:
    """The fault: a false positive in an image with an empty label made the mean accuracy over images NaN."""
    label, predicted = torch.tensor([[[0, 1, 1]], [[0, 0, 0]]]), torch.tensor([[[0, 1, 1]], [[1, 0, 0]]])
    expected = {"iou": 0.5, "dice": 0.5, "accuracy": 1.0}
    for kind, value in expected.items():
        assert score(FineGrainedOverlap(kind=kind, average="image"), predicted, label) == value
    # of 2 images the worst 10, ..., 90 % are one image, all of them two: (9 * 0 + .5) / 10
    assert score(FineGrainedOverlap(average="image", worst="averaged"), predicted, label) == pytest.approx(0.05)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("average", AVERAGES)
def test_nothing_scored_is_undefined_in_overlap(kind: str, average: str, channels: int) -> None:
    """The faults: an IndexError of a run without an image, and of a run in which all voxels are ignored."""
    metric = FineGrainedOverlap(kind=kind, average=average, ignore_index=255, discretize="threshold")
    assert tensor_of(metric.aggregate()).isnan()
    assert math.isnan(score(metric, torch.rand(2, channels, 3, 3), torch.full((2, channels, 3, 3), 255)))


@pytest.mark.parametrize("options", [{}, {"kind": "mce"}, {"classwise": True}, {"level": "image"}, {"against": "raters"}])
def test_nothing_scored_is_not_calibrated(options: dict[str, Any]) -> None:
    """The faults: with all voxels ignored the calibration error was 0, as if it were perfect, or a ZeroDivisionError."""
    metric = RaterCalibrationError(ignore_index=255, **options)
    assert tensor_of(metric.aggregate()).isnan()
    assert math.isnan(score(metric, torch.rand(2, 3, 4).softmax(1), torch.full((2, 2, 4), 255)))


def test_an_ignored_value_joins_no_class() -> None:
    """The faults: 255 with another `ignore_index` was clamped to the last class; as ignored value it joined the classes that count."""
    p = torch.rand(1, 3, 40, generator=torch.Generator().manual_seed(0)).softmax(1)
    votes = torch.randint(0, 3, (1, 1, 40), generator=torch.Generator().manual_seed(1))
    votes[..., 30:] = 255
    with pytest.raises(ValueError, match="255"):
        RaterCalibrationError()(p, votes)
    for classwise in (None, True):
        ignoring, plain = (RaterCalibrationError(classwise=classwise, ignore_index=ignored) for ignored in (255, None))
        assert score(ignoring, p, votes) == score(plain, p[..., :30], votes[..., :30])


def test_the_error_of_each_class_counts_the_class_and_not_the_winner() -> None:
    """The fault: "the label is c, and c has the largest probability" was held against p_c: .135 for predictions that are calibrated."""
    generator = torch.Generator().manual_seed(0)
    classes, voxels = 4, 160_000
    p = torch.rand(1, classes, voxels, generator=generator, dtype=torch.float64).log().neg()  # Dirichlet(1)
    p = p / p.sum(1, keepdim=True)
    drawn = (p.cumsum(1) < torch.rand(1, 1, voxels, generator=generator)).sum(1, keepdim=True)
    metric = RaterCalibrationError(classwise=True, bins=15)
    # a bin of n voxels is off by sqrt(2 / pi) sqrt(q (1 - q) / n) in the mean, and weighs n / voxels: over 15 bins at most this much
    noise = math.sqrt(2 / math.pi) * math.sqrt(15 * 0.25 / voxels)
    assert score(metric, p, drawn) < 2 * noise


@pytest.mark.long
def test_counts_beyond_2_to_the_24_are_exact() -> None:
    """The fault: counts in float32, which does not change when 1 is added at 2^24: 5.054 % for 5 %."""
    half = 2**23 + 2**20
    p, votes = torch.full((1, 1, half), 0.95), torch.ones(1, 1, half, dtype=torch.uint8)
    votes[..., : half // 10] = 0
    metric = RaterCalibrationError()
    for _ in range(2):
        metric(p, votes)
    assert tensor_of(metric.aggregate()).item() == pytest.approx(float(p[0, 0, 0]) - (1 - (half // 10) / half), abs=1e-12)
    ones = torch.ones(1, 1, 1, dtype=torch.bool).expand(3, 1, half)
    assert overlap_counts(ones, ones).sum(0).tolist() == [[3 * half] * 4]


def test_what_a_prediction_may_be() -> None:
    """The faults: errors for memory that is not contiguous and for bytes, a result of NaN for NaN, and no message for logits."""
    votes = torch.randint(0, 2, (2, 1, 4, 5, 3), generator=torch.Generator().manual_seed(0))
    p = torch.rand(2, 1, 4, 5, 3, generator=torch.Generator().manual_seed(1))
    label, found = votes, (p > 0.5).to(torch.uint8)
    turned = p.transpose(2, 4).contiguous().transpose(2, 4)
    assert not turned.is_contiguous()
    assert score(RaterCalibrationError(), turned, votes) == score(RaterCalibrationError(), p, votes)
    plain = score(FineGrainedOverlap(), found, label)
    for other in (found.transpose(2, 4).contiguous().transpose(2, 4), found.float(), found.bool(), found.half()):
        assert score(FineGrainedOverlap(), other, label) == plain
    assert score(RaterCalibrationError(), votes.float(), votes) == 0  # certain, and right
    for wrong, says in ((3.0, r"y_pred: expected values in \[0, 1\], got .* to 3"), (float("nan"), "y_pred: expected .*, got .*nan")):
        p[0, 0, 0, 0, 0] = wrong
        with pytest.raises(ValueError, match=says):
            RaterCalibrationError()(p, votes)


@pytest.mark.parametrize("metric", [SoftDice(), SoftJaccard(), FineGrainedOverlap(), FineGrainedOverlap(average="image")])
def test_a_run_of_empty_masks_is_undefined(metric: SoftDice | SoftJaccard | FineGrainedOverlap) -> None:
    """The fault: MONAI's `DiceMetric` aggregates a run of empty masks to 0, which reads as a failure of every case."""
    empty = torch.zeros(3, 1, 2, 2)
    assert math.isnan(score(metric, empty, empty))


def test_a_soft_label_equals_itself() -> None:
    """The fault: scores that multiply prediction and label give less than 1 for a prediction that equals a soft label."""
    t = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    for metric in (SoftDice(), SoftJaccard()):
        assert score(metric, t, t) == 1
        assert score(metric, torch.full_like(t, 0.5), torch.full_like(t, 0.5)) == 1
