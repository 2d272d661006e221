"""Promise 11: JML is a metric, DML a semimetric: searched, not only shown by examples (arXiv:2302.05666, arXiv:2303.16296)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import monai_jdt.losses as losses
from tests.present import present

MANY = settings(max_examples=6 * present(settings.default).max_examples)
#: Numbers at which norms meet: ends, ties, and anything else.
numbers = st.one_of(st.sampled_from([0.0, 1.0, 0.5, 0.1]), st.floats(0, 1, width=32))
triples = st.integers(1, 5).flatmap(lambda size: st.lists(st.lists(numbers, min_size=size, max_size=size), min_size=3, max_size=3))
smoothing = st.sampled_from([0.0, 1e-5, 1.0])


def tensors(vectors: list[list[float]]) -> torch.Tensor:
    return torch.tensor(vectors, dtype=torch.float64)[:, None, None]


@MANY
@given(triples, smoothing)
def test_jml_is_a_metric(vectors: list[list[float]], smooth: float) -> None:
    """d(a, c) <= d(a, b) + d(b, c), symmetric, 0 iff equal; equal smoothing is one voxel more that all labels share."""
    a, b, c = tensors(vectors)
    d = losses.JaccardMetricLoss(smooth_nr=smooth, smooth_dr=smooth)
    ab, bc, ac = (d(x[None], y[None]).item() for x, y in ((a, b), (b, c), (a, c)))
    assert ac <= ab + bc + 1e-12
    assert ab == pytest.approx(d(b[None], a[None]).item(), abs=1e-15)
    assert (ab == 0) == torch.equal(a, b) or (a - b).abs().max() < 1e-12
    assert 0 <= ab <= 1 + 1e-12


@MANY
@given(triples, smoothing)
def test_dml_is_a_semimetric(vectors: list[list[float]], smooth: float) -> None:
    """Symmetric, 0 iff equal, a function of JML; its triangle inequality holds up to a factor only."""
    a, b, c = tensors(vectors)
    d, j = (losses.__dict__[name](smooth_nr=smooth, smooth_dr=smooth) for name in ("DiceSemimetricLoss", "JaccardMetricLoss"))
    ab = d(a[None], b[None]).item()
    assert ab == pytest.approx(d(b[None], a[None]).item(), abs=1e-15)
    assert (ab == 0) == torch.equal(a, b) or (a - b).abs().max() < 1e-12
    jab = (
        1 - (torch.minimum(a, b).sum() + smooth / 2) / (torch.maximum(a, b).sum() + smooth / 2)
        if smooth or torch.maximum(a, b).any()
        else 0.0
    )
    assert j(a[None], b[None]).item() == pytest.approx(float(jab), abs=1e-9)
    assert ab == pytest.approx(float(jab) / (2 - float(jab)), abs=1e-9)  # D = J / (2 - J)
    # arXiv:2303.16296: a relaxed triangle inequality with factor 3/2.
    bc, ac = d(b[None], c[None]).item(), d(a[None], c[None]).item()
    assert ac <= 1.5 * (ab + bc) + 1e-9


def test_dml_has_no_triangle_inequality() -> None:
    """{1}, {1, 2}, {2}: d(a, c) = 1, d(a, b) = d(b, c) = 1 / 3. No promise, and so it is said."""
    a, b, c = (torch.tensor([[v]], dtype=torch.float64) for v in ([1.0, 0.0], [1.0, 1.0], [0.0, 1.0]))
    d = losses.DiceSemimetricLoss(smooth_nr=0, smooth_dr=0)
    assert d(a, c).item() == 1
    assert d(a, b).item() == pytest.approx(1 / 3)
    assert d(b, c).item() == pytest.approx(1 / 3)
    j = losses.JaccardMetricLoss(smooth_nr=0, smooth_dr=0)
    assert j(a, c).item() == j(a, b).item() + j(b, c).item() == 1  # a metric, on the edge


def test_unequal_smoothing_is_no_distance() -> None:
    """smooth_nr < smooth_dr costs zero-iff-equal: (dr - nr) / (2 tp + dr) at the label; it is allowed for MONAI's sake."""
    t = torch.tensor([[[1.0, 0.5]]], dtype=torch.float64)
    assert losses.JaccardMetricLoss(smooth_nr=0, smooth_dr=1)(t, t).item() == pytest.approx(1 / (2 * 1.5 + 1))


@given(st.integers(0, 10**6))
def test_jaccard_metric_in_volumes_and_means(seed: int) -> None:
    """A mean of metrics over classes and images is one too."""
    rng = np.random.default_rng(seed)
    a, b, c = torch.from_numpy(rng.random((3, 2, 3, 2, 2)) * (rng.random((3, 2, 3, 2, 2)) < 0.5))
    for average in (None, "image", "class", "dataset"):
        d = losses.JaccardMetricLoss(average=average)
        assert d(a, c) <= d(a, b) + d(b, c) + 1e-12
