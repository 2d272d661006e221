"""Compiled counts against torch's operations, which are the definition."""

from __future__ import annotations

import sys

import pytest
import torch

from monai_jdt.checks import value_checks
from monai_jdt.functional import fast_counts
from monai_jdt.functional.fast_counts import compiled_counts
from monai_jdt.functional.fine_grained_overlap import Discretization, overlap_counts
from monai_jdt.functional.metric_labels import label_rule
from monai_jdt.functional.rater_calibration_error import CalibrationRule, CalibrationTarget, rater_calibration_bins
from tests.metrics.rater_cases import KINDS, rater_case

pytest.importorskip("numba")

#: More than one block and more than one task, and no multiple of either.
VOXELS = 3 * 2**16 + 5


@pytest.fixture
def forced(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Compiled counts at every size."""
    monkeypatch.setattr(fast_counts, "COMPILED_FROM", 1)
    return monkeypatch


def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast_counts, "COMPILED_FROM", 2**60)


def random_case(channels: int = 3, voxels: int = VOXELS) -> tuple[torch.Tensor, torch.Tensor]:
    """Return probabilities, many of them equal, and a one-hot label, in dtypes for which numba compiles once."""
    generator = torch.Generator().manual_seed(channels)
    prob = torch.randint(0, 9, (2, channels, voxels), generator=generator) / 8
    index = torch.randint(0, channels, (2, voxels), generator=generator)
    return prob, torch.nn.functional.one_hot(index, channels).movedim(-1, 1).float()


@pytest.mark.parametrize("discretize", [None, Discretization.ARGMAX, Discretization.THRESHOLD])
@pytest.mark.parametrize("dtypes", [(torch.float32, torch.float32), (torch.bool, torch.bool)])
def test_overlap_counts_are_the_same(
    discretize: Discretization | None, dtypes: tuple[torch.dtype, torch.dtype], forced: pytest.MonkeyPatch
) -> None:
    prob, label = random_case()
    prob = (prob if discretize else prob > 0.5).to(dtypes[0])
    label = label.to(dtypes[1])
    assert compiled_counts(prob, label) is not None
    found = overlap_counts(prob, label, discretize, include_background=False)
    plain(forced)
    assert torch.equal(found, overlap_counts(prob, label, discretize, include_background=False))


def test_illegal_values_have_the_same_message(forced: pytest.MonkeyPatch) -> None:
    prob, label = random_case()
    high = prob.clone()
    high[1, 2, -1] = 1.5
    nan = prob.clone()
    nan[0, 0, 7] = torch.nan
    odd = label.clone()
    odd[1, 0, -1] = 0.25
    hard = (prob > 0.5).float()
    hard[0, 2, VOXELS // 2] = 1 - 2**-24  # the float next to 1
    for arguments, words in (
        ((high, label, Discretization.ARGMAX), r"y_pred: expected values in \[0, 1\], got 0 to 1.5"),
        ((nan, label, Discretization.THRESHOLD), r"y_pred: expected values in \[0, 1\], got nan"),
        ((prob, odd, Discretization.ARGMAX), "y: expected 0 and 1, got 0.25"),
        ((hard, label), "y_pred: expected 0 and 1, got 1"),
        ((hard > 0.5, odd.to(torch.uint8) + label.to(torch.uint8)), "y: expected 0 and 1, got 2"),
    ):
        with pytest.raises(ValueError, match=words):
            overlap_counts(*arguments)


@pytest.mark.parametrize("compiled", [True, False])
def test_of_equal_channels_the_first_one_wins(compiled: bool, forced: pytest.MonkeyPatch) -> None:
    if not compiled:
        plain(forced)
    prob, label = random_case()
    winner = prob.argmax(1)
    expected = torch.stack([(winner == channel).sum(-1) for channel in range(3)], 1)
    assert torch.equal(overlap_counts(prob, label, Discretization.ARGMAX)[..., 1], expected)


# every second kind has weights and a missing rater
@pytest.mark.parametrize(("name", "seed"), [(name, number % 2) for number, name in enumerate(KINDS)])
@pytest.mark.parametrize("against", list(CalibrationTarget))
def test_bins_are_the_same(name: str, seed: int, against: CalibrationTarget, forced: pytest.MonkeyPatch) -> None:
    case = rater_case(name, seed)
    rule = label_rule(True, case.regions, case.ignored)
    for classwise in (None, True):
        arguments = (case.prob.float(), case.votes, CalibrationRule(against, classwise, bins=7), rule)
        forced.setattr(fast_counts, "COMPILED_FROM", 1)
        found = rater_calibration_bins(*arguments, rater_weights=case.weights)
        plain(forced)
        torch.testing.assert_close(found, rater_calibration_bins(*arguments, rater_weights=case.weights), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("kind", [torch.uint8, torch.int64])
def test_bins_of_many_voxels_at_edges(kind: torch.dtype, forced: pytest.MonkeyPatch) -> None:
    prob, label = random_case()  # eighths: every confidence lies on an edge
    votes = torch.stack([label.argmax(1), label.argmax(1).roll(1, -1)], 1).to(kind)
    found = [rater_calibration_bins(prob, votes, CalibrationRule(classwise=by_class, bins=8)) for by_class in (False, True)]
    assert torch.equal(found[0][..., 0].sum(-1), torch.full((2, 1), VOXELS, dtype=torch.float64))
    plain(forced)
    for bins, by_class in zip(found, (False, True), strict=True):
        torch.testing.assert_close(
            bins, rater_calibration_bins(prob, votes, CalibrationRule(classwise=by_class, bins=8)), rtol=1e-12, atol=0
        )


def test_numbers_that_round_over_an_edge_are_in_the_right_bin(forced: pytest.MonkeyPatch) -> None:
    below, edges = [], torch.linspace(0, 1, 16, dtype=torch.float64)[1:-1].float()
    for toward in (0.0, 1.0):
        below += [torch.nextafter(edges, torch.full_like(edges, toward))]
    prob = torch.cat([edges, *below])[None, None]
    votes = torch.zeros(1, 1, prob.shape[-1], dtype=torch.uint8)
    found = rater_calibration_bins(prob, votes)
    plain(forced)
    assert torch.equal(found[..., 0], rater_calibration_bins(prob, votes)[..., 0])


def test_threads_change_nothing(forced: pytest.MonkeyPatch) -> None:
    prob, label = random_case()
    votes = label.argmax(1, keepdim=True)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            results.append((overlap_counts(prob, label, Discretization.ARGMAX), rater_calibration_bins(prob, votes)))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))


def test_what_stays_in_torch(forced: pytest.MonkeyPatch) -> None:
    prob, label = random_case(voxels=8)
    assert compiled_counts(prob, label) is not None
    assert compiled_counts(prob.half(), label) is None
    assert compiled_counts(prob[:0], label[:0]) is None
    with value_checks("off"):
        assert compiled_counts(prob, label) is None
    plain(forced)
    assert compiled_counts(prob, label) is None


def test_without_numba_torch_counts(forced: pytest.MonkeyPatch) -> None:
    forced.setattr(fast_counts, "is_installed", lambda package: False)
    forced.setitem(sys.modules, "monai_jdt.functional.compiled_counts", None)
    prob, label = random_case(voxels=8)
    assert compiled_counts(prob, label) is None
    assert overlap_counts(prob, label, Discretization.ARGMAX).shape == (2, 3, 4)
