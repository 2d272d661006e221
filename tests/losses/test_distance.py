"""JaccardDistance and DiceDistance against the norm form."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import monai_jdt.losses as losses
from monai_jdt.checks import value_checks
from tests.oracles import companions
from tests.present import present

vectors = st.integers(1, 6).flatmap(
    lambda size: st.lists(
        st.lists(st.sampled_from([0.0, 0.1, 1.0, 3.5, 100.0, 1e-3]), min_size=size, max_size=size), min_size=3, max_size=3
    )
)


@given(vectors, st.sampled_from([0.0, 0.5]))
def test_distances_equal_the_norm_form(three: list[list[float]], smooth: float) -> None:
    x, y, z = torch.tensor(three, dtype=torch.float64)
    for make, coefficient in ((losses.JaccardDistance, 1.0), (losses.DiceDistance, 0.5)):
        d = make(smooth=smooth)
        assert d(x, y).item() == pytest.approx(companions.distance(three[0], three[1], coefficient, smooth), rel=1e-9, abs=1e-12)
        assert d(x, y).item() == pytest.approx(d(y, x).item(), abs=1e-15)
        assert d(x, x).item() == 0
        assert (d(x, y).item() == 0) == torch.equal(x, y)
    d = losses.JaccardDistance(smooth=smooth)
    assert d(x, z).item() <= d(x, y).item() + d(y, z).item() + 1e-12


def test_distances_shapes_reductions_and_zero() -> None:
    x, y = torch.rand(4, 3, 5), torch.rand(4, 3, 5)
    for make in (losses.JaccardDistance, losses.DiceDistance):
        each = make(reduction="none")(x, y)
        assert each.shape == (4, 3)
        torch.testing.assert_close(make()(x, y), each.mean())
        torch.testing.assert_close(make(reduction="sum")(x, y), each.sum())
        assert make(dim=(0, 2), reduction="none")(x, y).shape == (3,)
        assert make(dim=1, reduction="none")(x, y).shape == (4, 5)
        zero = torch.zeros(2, 5, requires_grad=True)
        value = make()(zero, torch.zeros(2, 5))
        value.backward()
        assert value.item() == 0
        assert (present(zero.grad) == 0).all()
        assert make()(torch.zeros(0, 5), torch.zeros(0, 5)).item() == 0


def test_distances_give_a_gradient_to_both_sides() -> None:
    x, y = (torch.rand(3, 5, dtype=torch.float64, requires_grad=True) for _ in range(2))
    for make in (losses.JaccardDistance, losses.DiceDistance):
        assert torch.autograd.gradcheck(make(), (x, y))
        assert torch.autograd.gradgradcheck(make(), (x, y))
    losses.JaccardDistance()(x, y).backward()
    assert present(x.grad).abs().sum() > 0
    assert present(y.grad).abs().sum() > 0


def test_distances_refuse_negative_numbers_or_map_them() -> None:
    x, y = torch.tensor([-1.0, 2.0]), torch.tensor([1.0, 2.0])
    for make in (losses.JaccardDistance, losses.DiceDistance):
        with pytest.raises(ValueError, match=r"(?s)-1.*negative"):
            make()(x, y)
        with value_checks("off"):
            assert make()(x, y).isnan()
        for way, function in (("softplus", torch.nn.functional.softplus), ("sigmoid", torch.sigmoid)):
            torch.testing.assert_close(make(negative=way)(x, y), make()(function(x), function(y)))
        with pytest.raises(ValueError, match="reduction"):
            make(reduction="average")
        with pytest.raises(ValueError, match="smooth"):
            make(smooth=-1.0)
        with pytest.raises(ValueError, match=r"y.*\(2,\).*\(3,\)"):
            make()(y, torch.rand(3))
        with pytest.raises(TypeError, match="x"):
            make()(torch.tensor([1, 2]), y)
        with pytest.raises(ValueError, match="dim"):
            make(dim=2)(y, y)
        with pytest.raises(ValueError, match="x: expected a vector"):
            make()(torch.tensor(1.0), torch.tensor(1.0))


def test_distances_are_the_quantity_of_the_losses() -> None:
    p, t = torch.rand(2, 3, 4, 5), torch.rand(2, 3, 4, 5)
    for distance, loss in ((losses.JaccardDistance, losses.JaccardMetricLoss), (losses.DiceDistance, losses.DiceSemimetricLoss)):
        torch.testing.assert_close(distance(dim=(2, 3), smooth=1e-5)(p, t), loss()(p, t))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_distances_in_half_precision(dtype: torch.dtype) -> None:
    """70000 ones overflow a float16 sum."""
    x, y = torch.ones(1, 70000, dtype=dtype), torch.full((1, 70000), 0.5, dtype=dtype)
    for make, expected in ((losses.JaccardDistance, 0.5), (losses.DiceDistance, 1 / 3)):
        value = make()(x, y)
        assert value.dtype is torch.float32
        assert value.item() == pytest.approx(expected)
