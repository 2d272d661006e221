"""The temperature of trained networks."""

from __future__ import annotations

import math

import pytest
import torch

from monai_jdt.functional.temperature import SEARCHED_TEMPERATURES, fit_temperature, nll_slopes, temperature_of_slopes


def drawn(softmax: bool, raters: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """Return logits that are right, and the mean of raters drawn from them."""
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(4, 3, 50, 50, generator=generator)
    if not softmax:
        prob = logits.sigmoid()
        return logits, torch.stack([torch.rand(prob.shape, generator=generator) < prob for _ in range(raters)]).float().mean(0)
    flat = logits.softmax(1).movedim(1, -1).reshape(-1, 3)
    found = torch.multinomial(flat, raters, replacement=True, generator=generator)
    mean = torch.nn.functional.one_hot(found, 3).float().mean(1)
    return logits, mean.reshape(4, 50, 50, 3).movedim(-1, 1)


@pytest.mark.parametrize("softmax", [False, True])
@pytest.mark.parametrize("wrong", [0.25, 1.0, 3.0])
def test_the_factor_of_the_logits_is_found(softmax: bool, wrong: float) -> None:
    logits, label = drawn(softmax, raters=3)
    # 10,000 voxels and more: the sd of the estimate is about 1 %
    assert fit_temperature(wrong * logits, label, softmax=softmax) == pytest.approx(wrong, rel=0.05)


def test_it_is_the_minimum_of_the_likelihood_of_every_rater() -> None:
    logits, label = drawn(False, raters=2)
    best = fit_temperature(1.7 * logits, label)

    def nll(temperature: float) -> float:
        p = (1.7 * logits.double() / temperature).sigmoid()
        return float(-(label * p.log() + (1 - label) * (1 - p).log()).mean())

    assert nll(best) < min(nll(best * 1.001), nll(best / 1.001))


def test_the_analytic_value_and_the_bounds() -> None:
    logits = torch.tensor([[[4.0, -4.0]]])
    assert fit_temperature(logits, torch.tensor([[[0.9, 0.1]]])) == pytest.approx(4 / math.log(9), rel=1e-6)
    # labels that are always hit would make T 0, and those that are never hit infinite
    assert fit_temperature(logits, torch.tensor([[[1.0, 0.0]]])) >= math.exp(-5)
    assert fit_temperature(logits, torch.tensor([[[0.0, 1.0]]])) <= math.exp(5)


@pytest.mark.parametrize("softmax", [False, True])
@pytest.mark.parametrize("wrong", [0.25, 1.05, 3.0])
def test_slopes_of_cases_add_up_to_the_temperature_of_all(softmax: bool, wrong: float) -> None:
    logits, label = drawn(softmax, raters=2)
    logits = wrong * logits
    slopes = torch.stack([nll_slopes(logits[i : i + 1], label[i : i + 1], softmax=softmax) for i in range(4)]).sum(0)
    assert temperature_of_slopes(slopes) == pytest.approx(fit_temperature(logits, label, softmax=softmax), rel=2e-3)


def test_the_bounds_of_a_search() -> None:
    logits = torch.tensor([[[4.0, -4.0]]])
    assert temperature_of_slopes(nll_slopes(logits, torch.tensor([[[1.0, 0.0]]]))) == SEARCHED_TEMPERATURES[0]
    assert temperature_of_slopes(nll_slopes(logits, torch.tensor([[[0.0, 1.0]]]))) == SEARCHED_TEMPERATURES[-1]
    assert temperature_of_slopes(nll_slopes(0 * logits, torch.tensor([[[0.0, 1.0]]]))) == 1


def test_callers_tensors_and_gradient_mode_are_left_alone() -> None:
    logits, label = (values.clone().requires_grad_() for values in drawn(False))
    with torch.no_grad():
        assert fit_temperature(logits, label) == pytest.approx(1, rel=0.05)
    assert logits.grad is None


@pytest.mark.parametrize(
    ("logits", "label", "softmax", "said"),
    [
        (torch.ones(1, 1, 2), torch.ones(1, 2, 2), False, r"label: expected shape \(1, 1, 2\)"),
        (torch.ones(1, 1, 2).long(), torch.ones(1, 1, 2), False, "logits: expected floating point"),
        (torch.ones(0, 1, 2), torch.ones(0, 1, 2), False, "logits: expected at least one value"),
        (torch.ones(1, 1, 2), torch.ones(1, 1, 2), True, "softmax: expected False for one channel"),
        (torch.ones(1, 1, 2), torch.full((1, 1, 2), 3.0), False, r"label: expected values in \[0, 1\], got 3 to 3"),
        (torch.full((1, 1, 2), torch.inf), torch.ones(1, 1, 2), False, "logits: expected finite values"),
    ],
)
def test_wrong_inputs_are_refused(logits: torch.Tensor, label: torch.Tensor, softmax: bool, said: str) -> None:
    with pytest.raises((TypeError, ValueError), match=said):
        fit_temperature(logits, label, softmax=softmax)
    with pytest.raises((TypeError, ValueError), match=said):
        nll_slopes(logits, label, softmax=softmax)
