"""Samples drawn from probabilities: frequencies, order, seeds, and what the coupling means for the energy distance."""

from __future__ import annotations

import pytest
import torch

from monai_jdt.functional.drawn_samples import draw_samples
from monai_jdt.functional.generalized_energy_distance import generalized_energy_distance

#: Two images of three nested regions, 500 voxels.
PROB = torch.rand(2, 3, 20, 25, generator=torch.Generator().manual_seed(1)).sort(1).values


@pytest.mark.parametrize("coupling", ["independent", "shared"])
@pytest.mark.parametrize("softmax", [False, True])
def test_the_mean_of_the_samples_is_the_probability(coupling: str, softmax: bool) -> None:
    prob = PROB / PROB.sum(1, keepdim=True) if softmax else PROB
    samples = draw_samples(prob, 2000, softmax=softmax, coupling=coupling)
    assert samples.shape == (2, 2000, 3, 20, 25)
    assert samples.dtype is torch.bool
    # a mean of 2,000 draws has an sd of at most .0112; 5 of them over 3,000 means; levels are off by 1 / 2,000 at most
    assert (samples.float().mean(1) - prob).abs().max() < (0.056 if coupling == "independent" else 0.0006)
    if softmax:
        assert bool((samples.sum(2) == 1).all())


@pytest.mark.parametrize("coupling", ["independent", "shared"])
def test_nested_regions_stay_nested(coupling: str) -> None:
    samples = draw_samples(PROB, 20, coupling=coupling)
    assert not bool((samples[:, :, :-1] & ~samples[:, :, 1:]).any())


def test_shared_samples_are_the_level_sets() -> None:
    samples = draw_samples(PROB, 4, coupling="shared")
    for number, level in enumerate((1 / 8, 3 / 8, 5 / 8, 7 / 8)):
        assert torch.equal(samples[:, number], PROB.gt(level))


def test_voxels_are_drawn_independently() -> None:
    # the number of marked voxels of 500 with p = .5 has a variance of 125; one number for all would give 62,500
    counts = draw_samples(torch.full((1, 1, 500), 0.5), 4000)[0].sum((1, 2)).double()
    assert abs(counts.var() - 125) < 15


def test_an_image_depends_on_neither_batch_nor_number_nor_what_came_before() -> None:
    whole = draw_samples(PROB, 8)
    torch.rand(7)
    assert torch.equal(draw_samples(PROB[1:], 3), whole[1:, :3])
    assert not torch.equal(draw_samples(PROB, 8, seed=1), whole)


def test_a_seed_leaves_the_global_generator_alone_and_none_uses_it() -> None:
    state = torch.random.get_rng_state()
    draw_samples(PROB, 2)
    assert torch.equal(torch.random.get_rng_state(), state)
    first = draw_samples(PROB, 2, seed=None)
    assert not torch.equal(draw_samples(PROB, 2, seed=None), first)
    torch.random.set_rng_state(state)
    assert torch.equal(draw_samples(PROB, 2, seed=None), first)


def test_half_precision_is_drawn_like_float32() -> None:
    assert torch.equal(draw_samples(PROB.half(), 3), draw_samples(PROB.half().float(), 3))


def test_a_right_map_has_no_distance_by_levels_and_one_by_independent_draws() -> None:
    ramp = ((torch.arange(64) + 0.5) / 64)[None, None]
    votes = (ramp[0] > ((torch.arange(64) + 0.5) / 64)[:, None]).long()[None]  # raters draw coherently: level sets
    assert torch.equal(votes.float().mean(1, keepdim=True)[0, 0], ramp[0, 0] - 0.5 / 64)
    levels, drawn = (
        float(generalized_energy_distance(draw_samples(ramp, 64, coupling=coupling), votes)) for coupling in ("shared", "independent")
    )
    assert levels == 0
    assert drawn > 0.04


@pytest.mark.parametrize(
    ("prob", "arguments", "said"),
    [
        (torch.tensor([[[1.5]]]), {}, r"prob: expected values in \[0, 1\], got 1.5"),
        (torch.ones(1, 1, 2).long(), {}, "prob: expected floating point"),
        (torch.ones(2), {}, r"prob: expected shape \(N, C, \*S\)"),
        (torch.ones(1, 1, 2), {"softmax": True}, "softmax: expected False for one channel"),
        (torch.ones(1, 1, 2), {"samples": 0}, "samples: expected a whole number >= 1"),
        (torch.ones(1, 1, 2), {"coupling": "some"}, "coupling: expected one of 'independent', 'shared'"),
    ],
)
def test_wrong_arguments_are_refused(prob: torch.Tensor, arguments: dict, said: str) -> None:
    with pytest.raises((ValueError, TypeError), match=said):
        draw_samples(prob, **{"samples": 2, **arguments})
