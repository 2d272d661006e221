"""Every metric against several raters equals plain loops: binary, classes, regions, silence, weights, missing and empty raters."""

import itertools
import math
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch

from monai_jdt.functional.disagreement_correlation import UncertaintyKind, disagreement_correlation
from monai_jdt.functional.generalized_energy_distance import EmptyDistance, generalized_energy_distance
from monai_jdt.functional.metric_labels import LabelRule, label_rule
from monai_jdt.functional.rater_agreement import AgreementKind, rater_agreement
from monai_jdt.functional.rater_brier_score import BrierPart, rater_brier_score
from monai_jdt.functional.rater_dice import EmptyPair, RaterDiceKind, rater_dice
from monai_jdt.functional.rater_nll import rater_nll
from monai_jdt.functional.set_overlap import SetOverlap
from monai_jdt.functional.soft_overlap import OverlapKind, soft_overlap
from monai_jdt.functional.volume_crps import CrpsKind, volume_crps
from tests.metrics.rater_cases import KINDS, REGIONS, RaterCase, rater_case
from tests.oracles import rater_metrics as oracle

SEEDS = [0, 1]  # without weights and with them


def rule_of(case: RaterCase) -> LabelRule:
    return label_rule(True, case.regions, case.ignored)


def expected(case: RaterCase, one: Callable[..., float]) -> np.ndarray:
    """`one(image, p, samples, votes, weights, channel, group)` of every image and channel."""
    rows = []
    for image in range(2):
        p, samples, votes = case.image(image)
        rows.append([one(p, samples, votes, case.weights_of(image), c, group) for c, group in enumerate(case.groups)])
    return np.array(rows)


def agree(got: torch.Tensor, rows: list[list[float]] | np.ndarray) -> None:
    assert got.dtype == torch.float64
    np.testing.assert_allclose(got.numpy(), rows, rtol=1e-6, atol=1e-9)  # probabilities are float32


cases = pytest.mark.parametrize(("kind", "seed"), [(kind, seed) for kind in KINDS for seed in SEEDS])


@cases
@pytest.mark.parametrize("overlap", list(OverlapKind))
def test_soft_overlap(kind: str, seed: int, overlap: OverlapKind) -> None:
    case = rater_case(kind, seed)
    got = soft_overlap(case.prob, case.votes, overlap, rule_of(case), rater_weights=case.weights)
    jaccard = overlap is OverlapKind.JACCARD
    agree(got, expected(case, lambda p, s, v, w, c, g: oracle.soft_overlap(p[c], oracle.mean_label(v, w, g, case.ignored), jaccard)))


@cases
def test_brier_score_and_its_parts(kind: str, seed: int) -> None:
    case = rater_case(kind, seed)
    parts = {part: rater_brier_score(case.prob, case.votes, part, rule_of(case), rater_weights=case.weights) for part in BrierPart}
    for part, got in parts.items():
        agree(got, expected(case, lambda p, s, v, w, c, g, part=part: oracle.brier(p[c], v, w, g, case.ignored, part.value)))
    closed = parts[BrierPart.DISTANCE] + parts[BrierPart.SPREAD]
    torch.testing.assert_close(parts[BrierPart.TOTAL], closed, rtol=0, atol=1e-12, equal_nan=True)


@cases
@pytest.mark.parametrize("classwise", [None, True])
def test_nll(kind: str, seed: int, classwise: bool | None) -> None:
    case = rater_case(kind, seed)
    got = rater_nll(case.prob, case.votes, classwise, 1e-7, rule_of(case), rater_weights=case.weights)
    by_class = classwise or case.regions is not None or case.prob.shape[1] == 1
    rows = []
    for image in range(2):
        p, _, votes = case.image(image)
        rows.append(oracle.nll(p, votes, case.weights_of(image), case.groups, case.ignored, by_class))
    agree(got, rows)


@cases
@pytest.mark.parametrize("empty", list(EmptyPair))
def test_rater_dice(kind: str, seed: int, empty: EmptyPair) -> None:
    value = 1.0 if empty is EmptyPair.ONE else math.nan
    for choice in RaterDiceKind:
        case = rater_case(kind, seed, equal=choice is not RaterDiceKind.MEAN)

        def one(
            p: np.ndarray,
            samples: np.ndarray,
            votes: np.ndarray,
            weights: list[float],
            c: int,
            group: oracle.Group,
            case: RaterCase = case,
            choice: RaterDiceKind = choice,
        ) -> float:
            if choice is RaterDiceKind.CONSENSUS:
                return oracle.consensus_dice(samples[:, c], votes, weights, group, case.ignored, value)
            matrix = oracle.dice_matrix(samples[:, c], votes, weights, group, case.ignored, value)
            own = [weights[r] for r in oracle.there(votes, weights, case.ignored)]
            return oracle.rater_dice(matrix, own, choice.value)

        def score(case: RaterCase = case, choice: RaterDiceKind = choice) -> torch.Tensor:
            return rater_dice(case.samples, case.votes, choice, empty, rule_of(case), rater_weights=case.weights)

        if choice is RaterDiceKind.EACH:
            with pytest.raises(ValueError, match="as many samples as raters for kind 'each'"):
                score()
        else:
            agree(score(), expected(case, one))


@pytest.mark.parametrize("seed", SEEDS)
def test_each_sample_with_its_own_rater(seed: int) -> None:
    case = rater_case("classes", 2 * seed)
    votes = case.votes[:, :3]
    got = rater_dice(case.samples, votes, RaterDiceKind.EACH)
    for image in range(2):
        _, samples, stack = case.image(image)
        matrices = [oracle.dice_matrix(samples[:, c], stack[:3], [1.0] * 3, (c,), None, math.nan) for c in range(3)]
        np.testing.assert_allclose(got[image].numpy(), [oracle.nanmean(np.diag(m)) for m in matrices])


@cases
@pytest.mark.parametrize("distance", list(SetOverlap))
@pytest.mark.parametrize("diagonal", [True, False])
def test_energy_distance(kind: str, seed: int, distance: SetOverlap, diagonal: bool) -> None:
    case, dice = rater_case(kind, seed), distance is SetOverlap.DICE
    for empty in EmptyDistance:
        got = generalized_energy_distance(
            case.samples, case.votes, distance, diagonal, empty, rule_of(case), rater_weights=case.weights
        )
        value = 0.0 if empty is EmptyDistance.ZERO else math.nan

        def one(
            p: np.ndarray,
            samples: np.ndarray,
            votes: np.ndarray,
            weights: list[float],
            c: int,
            group: oracle.Group,
            value: float = value,
        ) -> float:
            return oracle.energy_distance(samples[:, c], votes, weights, group, case.ignored, dice, diagonal, value)

        agree(got, expected(case, one))


def _pairs(
    ignored: int | None,
    dice: bool,
    p: np.ndarray,
    samples: np.ndarray,
    votes: np.ndarray,
    weights: list[float],
    c: int,
    group: oracle.Group,
) -> float:
    return oracle.pair_overlap(votes, weights, group, ignored, dice)


@cases
def test_agreement(kind: str, seed: int) -> None:
    case = rater_case(kind, seed, equal=True)
    channels = case.prob.shape[1]
    for choice, dice in ((AgreementKind.PAIRWISE_DICE, True), (AgreementKind.PAIRWISE_JACCARD, False)):
        got = rater_agreement(case.votes, channels, choice, rule_of(case), rater_weights=case.weights)
        agree(got, expected(case, partial(_pairs, case.ignored, dice)))
    kappa = rater_agreement(case.votes, channels, AgreementKind.FLEISS_KAPPA, rule_of(case), rater_weights=case.weights)
    if case.regions is None and channels > 1:
        rows = [[oracle.fleiss_kappa(case.image(i)[2], case.weights_of(i), case.groups, case.ignored)] for i in range(2)]
        agree(kappa, rows)
    else:
        agree(kappa, expected(case, lambda p, s, v, w, c, g: oracle.fleiss_kappa(v, w, [g], case.ignored)))


def test_kappa_is_the_published_examples() -> None:
    """Fleiss 1971 has other data; the table of 10 subjects, 14 raters and 5 categories that textbooks use gives .210."""
    table = [
        [0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1],
        [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7],
    ]  # fmt: skip
    votes = torch.tensor([[category for category, count in enumerate(row) for _ in range(count)] for row in table]).T[None]
    assert float(rater_agreement(votes, 5, AgreementKind.FLEISS_KAPPA)) == pytest.approx(0.210, abs=5e-4)


@cases
def test_correlation(kind: str, seed: int) -> None:
    case = rater_case(kind, seed)
    for choice in UncertaintyKind:
        got = disagreement_correlation(case.prob, case.votes, choice, rule_of(case), rater_weights=case.weights)
        separate = case.regions is not None or case.prob.shape[1] == 1

        def uncertainty(values: np.ndarray, choice: UncertaintyKind = choice, separate: bool = separate) -> np.ndarray:
            if separate:
                values = np.stack([values[0], 1 - values[0]])
            if choice is UncertaintyKind.ENTROPY:
                return -np.where(values > 0, values * np.log(np.maximum(values, 1e-300)), 0).sum(0)
            return (1 - (values**2).sum(0)) / (2 if separate else 1)  # p (1 - p) is half of 1 - p^2 - (1 - p)^2

        for image in range(2):
            p, _, votes = case.image(image)
            weights = case.weights_of(image)
            raters = oracle.there(votes, weights, case.ignored)
            two = np.array([sum(votes[r, v] != case.ignored for r in raters) >= 2 for v in range(votes.shape[1])], dtype=bool)
            mean = np.array([[m or 0.0 for m in oracle.mean_label(votes, weights, group, case.ignored)] for group in case.groups])
            for column in range(got.shape[1]):
                chosen = [column] if separate else range(len(mean))
                u, v = uncertainty(p[list(chosen)])[two], uncertainty(mean[list(chosen)])[two]
                score = float(got[image, column])
                if len(u) < 2 or np.ptp(u) < 1e-12 or np.ptp(v) < 1e-12:
                    assert math.isnan(score)
                else:
                    assert score == pytest.approx(np.corrcoef(u, v)[0, 1], abs=1e-6)


@cases
def test_crps(kind: str, seed: int) -> None:
    case = rater_case(kind, seed)
    spacing = [1.5, 2.0, 3.0][: case.prob.ndim - 2]
    unit = math.prod(spacing) / {3: 1000, 2: 100}.get(len(spacing), 1)
    got = volume_crps(case.prob, case.votes, CrpsKind.EMPIRICAL, spacing, rule_of(case), rater_weights=case.weights)

    def one(p: np.ndarray, samples: np.ndarray, votes: np.ndarray, weights: list[float], c: int, group: oracle.Group) -> float:
        whole = [r for r in oracle.there(votes, weights, case.ignored) if not (votes[r] == case.ignored).any()]
        if not whole:
            return math.nan
        total = sum(weights[r] for r in whole)
        volumes = [unit * sum(int(value in group) for value in votes[r]) for r in whole]
        return oracle.crps_by_steps(unit * p[c].sum(), volumes, [weights[r] / total for r in whole])

    agree(got, expected(case, one))


def test_gaussian_and_the_challenges_crps() -> None:
    """Numerical integration of the definition, and the numbers of a case far from its raters: raters 90, 100, 110 and v = 200."""
    scipy_stats, scipy_integrate = pytest.importorskip("scipy.stats"), pytest.importorskip("scipy.integrate")
    votes = torch.zeros(1, 3, 400, dtype=torch.int64)
    for rater, size in enumerate((90, 100, 110)):
        votes[0, rater, :size] = 1
    deviation = np.std([90, 100, 110])
    normal = scipy_stats.norm(100, deviation)
    for volume in (200, 104, 95.5, 60):
        prob = torch.zeros(1, 1, 400)
        prob[0, 0, : int(volume)] = 1
        prob[0, 0, int(volume)] = volume - int(volume)
        exact = volume_crps(prob, votes, CrpsKind.GAUSSIAN).item()
        wide = sorted({volume, 100 - 12 * deviation, 100 + 12 * deviation})

        def integrand(x: float, cdf: Callable[[float], float] = normal.cdf, volume: float = volume) -> float:
            return (cdf(x) - (x >= volume)) ** 2

        parts = [scipy_integrate.quad(integrand, a, b, limit=200)[0] for a, b in itertools.pairwise(wide)]
        assert exact == pytest.approx(sum(parts), rel=1e-6)
        # the challenge's: a table of 100 points, on a grid of 600,001 points between -3 and 3 sd
        x = np.linspace(100 - 3 * deviation, 100 + 3 * deviation, 600_001)
        table = np.linspace(normal.ppf(0.01), normal.ppf(0.99), 100)
        cdf = np.interp(x, table, normal.cdf(table), left=0, right=1)
        challenge = ((cdf - (x >= volume)) ** 2).mean() * 6 * deviation
        assert volume_crps(prob, votes, CrpsKind.CURVAS).item() == pytest.approx(challenge, rel=1e-4)
    far = torch.zeros(1, 1, 400)
    far[0, 0, :200] = 1
    assert volume_crps(far, votes, CrpsKind.GAUSSIAN).item() == pytest.approx(95.4, abs=0.05)
    assert volume_crps(far, votes, CrpsKind.CURVAS).item() == pytest.approx(19.9, abs=0.05)
    # one rater, or raters alike: the absolute error
    for kind in CrpsKind:
        assert volume_crps(far, votes[:, :1].repeat(1, 3, 1), kind).item() == pytest.approx(110)
        assert volume_crps(far, votes[:, :1], kind).item() == pytest.approx(110)


def test_samples_drawn_from_the_raters_have_distance_zero_and_the_analytic_expectation() -> None:
    """Every rater once: the V-statistic is 0. M samples drawn from R raters: E D^2 = E d(y, y') / M, since a sample meets itself."""
    votes = torch.from_numpy(np.random.default_rng(0).integers(0, 2, (1, 4, 30)))
    assert generalized_energy_distance(votes[:, :, None], votes).item() == pytest.approx(0, abs=1e-12)
    pairs = [[1 - oracle.overlap(set(np.flatnonzero(a)), set(np.flatnonzero(b)), False, 1) for b in votes[0]] for a in votes[0]]
    drawn = torch.randint(0, 4, (400, 2), generator=torch.Generator().manual_seed(1))
    scores = [generalized_energy_distance(votes[:, row][:, :, None], votes).item() for row in drawn]
    assert np.mean(scores) == pytest.approx(np.mean(pairs) / 2, abs=4 * np.std(scores) / math.sqrt(400))


@pytest.mark.parametrize("distance", list(SetOverlap))
def test_all_draws_from_the_raters_have_the_expectation_of_the_distance(distance: SetOverlap) -> None:
    """Every one of the R^M draws of M samples counts alike: the mean over them is the expectation, without a sampling error.

    With mu the mean distance of two raters, a rater with itself included, E D^2 = 2 mu - (1 - 1/M) mu - mu = mu / M. Without the
    diagonal the mean over pairs of different raters is mu R / (R - 1), and E D^2 = 2 mu - mu - mu R / (R - 1) = -mu / (R - 1).
    """
    raters, samples, classes = 3, 2, 3
    votes = torch.from_numpy(np.random.default_rng(0).integers(0, classes, (1, raters, 3, 4, 2)))
    masks = torch.stack([votes[0] == c for c in range(classes)], 1)
    draws = torch.stack([masks[list(draw)] for draw in itertools.product(range(raters), repeat=samples)])
    every = votes.expand(len(draws), *votes.shape[1:])
    for c in range(classes):
        sets = [set(np.flatnonzero(rater == c).tolist()) for rater in votes[0].numpy()]
        mu = np.mean([[1 - oracle.overlap(a, b, distance is SetOverlap.DICE, 1) for b in sets] for a in sets])
        for diagonal, expectation in ((True, mu / samples), (False, -mu / (raters - 1))):
            scores = generalized_energy_distance(draws, every, distance, diagonal)[:, c]
            assert scores.mean().item() == pytest.approx(expectation, abs=1e-12)


@pytest.mark.parametrize("kind", ["binary silent", "classes silent", "regions silent"])
def test_the_shape_of_space_changes_nothing(kind: str) -> None:
    """A score in 2D and 3D is that of the voxels in a row."""
    flat = rater_case(kind, next(seed for seed in (0, 1, 2) if rater_case(kind, seed).prob.ndim == 5))
    size = flat.prob.shape[2:].numel()
    rule = rule_of(flat)
    results: list[list[torch.Tensor]] = []
    shapes: list[tuple[int, ...]] = [(size,), (2, size // 2), (2, 3, size // 6)]
    for shape in shapes:
        p, votes = flat.prob.reshape(*flat.prob.shape[:2], *shape), flat.votes.reshape(*flat.votes.shape[:2], *shape)
        samples = flat.samples.reshape(*flat.samples.shape[:3], *shape)
        results.append(
            [
                soft_overlap(p, votes, OverlapKind.JACCARD, rule),
                rater_brier_score(p, votes, BrierPart.TOTAL, rule),
                rater_nll(p, votes, rule=rule),
                rater_dice(samples, votes, rule=rule),
                generalized_energy_distance(samples, votes, rule=rule),
                rater_agreement(votes, p.shape[1], rule=rule),
                rater_agreement(votes, p.shape[1], AgreementKind.FLEISS_KAPPA, rule),
                volume_crps(p, votes, rule=rule),
                disagreement_correlation(p, votes, rule=rule),
            ]
        )
    for other in results[1:]:
        for score, same in zip(results[0], other, strict=True):
            torch.testing.assert_close(same, score, rtol=1e-12, atol=1e-15, equal_nan=True)


def test_votes_are_one_label_with_their_mean() -> None:
    case = rater_case("classes", 0)
    mean = torch.stack([(case.votes == c).double().mean(1) for c in range(3)], 1)
    for kind in OverlapKind:
        by_votes = soft_overlap(case.prob, case.votes, kind, rule_of(case))
        torch.testing.assert_close(by_votes, soft_overlap(case.prob, mean, kind), rtol=1e-12, atol=0)


def test_order_of_raters_and_voxels_changes_nothing_and_uniform_weights_are_none() -> None:
    case = rater_case("regions silent", 0)
    rule = rule_of(case)
    scores = {
        "brier": lambda p, s, v, w: rater_brier_score(p, v, BrierPart.TOTAL, rule, rater_weights=w),
        "ged": lambda p, s, v, w: generalized_energy_distance(s, v, rule=rule, rater_weights=w),
        "dice": lambda p, s, v, w: rater_dice(s, v, RaterDiceKind.MATCH, rule=rule, rater_weights=w),
        "kappa": lambda p, s, v, w: rater_agreement(v, 3, AgreementKind.FLEISS_KAPPA, rule, rater_weights=w),
        "crps": lambda p, s, v, w: volume_crps(p, v, rule=rule, rater_weights=w),
    }
    p, s, v = case.prob.flatten(2), case.samples.flatten(3), case.votes.flatten(2)
    order, voxels = torch.tensor([2, 0, 3, 1]), torch.randperm(v.shape[2])
    for score in scores.values():
        plain = score(p, s, v, None)
        for other in (
            score(p, s, v[:, order], None),
            score(p[..., voxels], s[..., voxels], v[..., voxels], None),
            score(p, s, v, [3.0] * 4),
            score(p, s, torch.cat([v, torch.full_like(v[:, :1], 99)], 1), [1.0] * 4 + [0]),
        ):
            torch.testing.assert_close(other, plain, rtol=1e-12, atol=1e-12, equal_nan=True)


def test_raters_without_a_common_voxel_have_no_distance_and_are_left_out() -> None:
    votes = torch.tensor([[[1, 0, 7, 7], [7, 7, 1, 1], [1, 1, 1, 0]]])  # the first two never meet
    samples = torch.tensor([[[[1, 0, 1, 0]], [[0, 0, 1, 1]]]])
    rule, groups = label_rule(True, None, 7), (1,)
    for empty in EmptyDistance:
        value = 0.0 if empty is EmptyDistance.ZERO else math.nan
        for diagonal in (True, False):
            got = generalized_energy_distance(samples, votes, SetOverlap.IOU, diagonal, empty, rule)
            drawn, marked = samples[0, :, 0].numpy(), votes[0].numpy()
            wanted = oracle.energy_distance(drawn, marked, [1.0] * 3, groups, 7, False, diagonal, value)
            assert got.item() == pytest.approx(wanted)
    # the two alone: no pair, and so no expectation without the diagonal
    assert generalized_energy_distance(samples, votes[:, :2], diagonal=False, rule=rule).isnan().all()


def test_each_sample_of_an_image_in_which_nobody_speaks_is_undefined() -> None:
    samples, votes = torch.ones(2, 2, 1, 3), torch.ones(2, 2, 3, dtype=torch.int64)
    votes[1] = 7
    scores = rater_dice(samples, votes, RaterDiceKind.EACH, rule=label_rule(True, None, 7))
    assert scores.flatten().tolist() == pytest.approx([1, math.nan], nan_ok=True)
    votes[0, 1] = 7
    with pytest.raises(ValueError, match="no missing rater, got 2 samples and 1 of 2 raters"):
        rater_dice(samples, votes, RaterDiceKind.EACH, rule=label_rule(True, None, 7))


def test_the_only_channel_of_agreement_is_not_left_out() -> None:
    votes = torch.zeros(1, 2, 4, dtype=torch.int64)
    for kind in AgreementKind:
        with pytest.raises(ValueError, match="include_background=False: expected at least 2 channels, got 1"):
            rater_agreement(votes, 1, kind, include_background=False)


def test_regions_without_votes_and_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="regions: expected None without votes"):
        label_rule(False, REGIONS)
    with pytest.raises(ValueError, match="ignore_index: expected a value of no region, got 4"):
        label_rule(True, REGIONS, 4)
    p, votes = torch.full((1, 3, 4), 1 / 3), torch.zeros(1, 2, 4, dtype=torch.int64)
    rule = label_rule(True)
    for label, weights, words in (
        (votes + 5, None, "y: expected label values from 0 to 2, the channels of y_pred, got 5"),
        (votes + 0.5, None, "y: expected whole label values, got 0.5"),
        (votes[..., :3], None, r"y: expected votes \(1, R, 4\), the images and space of y_pred, got shape"),
        (votes[:, :0], None, "y: expected votes .* of at least one rater"),
        (votes, [1.0], r"rater_weights: expected shape \(2,\) or \(1, 2\)"),
        (votes, [1.0, -1.0], "rater_weights: expected finite numbers >= 0"),
    ):
        with pytest.raises(ValueError, match=words):
            rater_brier_score(p, label, BrierPart.TOTAL, rule, rater_weights=weights)
    with pytest.raises(ValueError, match="rater_weights: expected weights that are 0 or all alike for kind 'max'"):
        rater_dice(p > 0.5, votes, RaterDiceKind.MAX, rater_weights=[1.0, 2.0])
    with pytest.raises(ValueError, match="y_pred: expected 0 and 1 in every sample"):
        rater_dice(p, votes)
    with pytest.raises(ValueError, match=r"y_pred: expected samples \(N, M, C, \*S\)"):
        rater_dice(p[0] > 0.5, votes)
    with pytest.raises(ValueError, match="classwise: expected None or True for one channel or regions, got False"):
        rater_nll(p[:, :1], votes, False)
    with pytest.raises(ValueError, match="include_background: expected True where classes are scored together, got False"):
        rater_nll(p, votes, include_background=False)
    for score in (volume_crps, disagreement_correlation):
        with pytest.raises(ValueError, match="rule: expected votes=True, got a dense label"):
            score(p, p, rule=label_rule())
    with pytest.raises(ValueError, match="spacing: expected 1 positive numbers"):
        volume_crps(p, votes, spacing=[1.0, 2.0])
    with pytest.raises(ValueError, match="y_pred: expected values in"):
        soft_overlap(p * 5, votes, OverlapKind.DICE, rule)
    with pytest.raises(ValueError, match="rater_weights: expected None without votes"):
        soft_overlap(p, p, OverlapKind.DICE, rater_weights=[1.0])


def test_an_image_in_which_nobody_speaks_is_undefined_everywhere() -> None:
    p, votes = torch.full((1, 1, 4), 0.5), torch.full((1, 2, 4), 7)
    rule = label_rule(True, None, 7)
    results = [
        soft_overlap(p, votes, OverlapKind.DICE, rule),
        rater_brier_score(p, votes, BrierPart.TOTAL, rule),
        rater_nll(p, votes, rule=rule),
        rater_dice(p > 0, votes, rule=rule),
        generalized_energy_distance(p > 0, votes, rule=rule),
        rater_agreement(votes, 1, rule=rule),
        rater_agreement(votes, 1, AgreementKind.FLEISS_KAPPA, rule),
        volume_crps(p, votes, rule=rule),
        disagreement_correlation(p, votes, rule=rule),
    ]
    assert all(result.shape == (1, 1) and result.isnan().all() for result in results)


def test_dense_labels_with_an_ignored_value() -> None:
    p = torch.rand(2, 2, 6, generator=torch.Generator().manual_seed(0))
    m = torch.rand(2, 2, 6, generator=torch.Generator().manual_seed(1))
    ignored = m.clone()
    ignored[:, :, 4:] = -1
    rule = label_rule(False, None, -1)
    for kind in OverlapKind:
        torch.testing.assert_close(soft_overlap(p, ignored, kind, rule), soft_overlap(p[..., :4], m[..., :4], kind))
    with pytest.raises(ValueError, match="y: expected values in"):
        soft_overlap(p, ignored, OverlapKind.DICE)
