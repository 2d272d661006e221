"""Which p each loss asks for at voxels that look alike: the search on the loss against its formula, and docs/what_p_means.md."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import monai.losses as theirs
import numpy as np
import pytest
import torch

import monai_jdt.losses as ours
from benchmarks.population_minima import Loss, Population, Voxels, alike, minimiser, right
from benchmarks.study.losses import FixedDenominatorLoss, SumOfLosses
from tests.oracles import population_minima as theory
from tests.oracles.population_minima import Part, Term, background, lowest, mirrored, part_of, weighted

#: Of our losses that make a ratio: without smoothing the formulas are exact.
EXACT: dict[str, Any] = {"smooth_nr": 0.0, "smooth_dr": 0.0}
EAGER: dict[str, Any] = {**EXACT, "backend": "eager"}

HARD: dict[str, Population] = {
    "beside little": [[*alike({0: 0.6, 1: 0.4}, 10), right(1, 3), right(0, 30)]],
    "beside much that is right": [[*alike({0: 0.7, 1: 0.3}, 10), right(1, 60), right(0, 20)]],
    "beside much that is missed": [[*alike({0: 0.7, 1: 0.3}, 10), Voxels(1, 20, 0.0), right(1, 3), right(0, 20)]],
    "few are foreground": [[*alike({0: 0.9, 1: 0.1}, 10), right(1, 1), right(0, 40)]],
    "most are foreground": [[*alike({0: 0.2, 1: 0.8}, 10), right(1, 8), right(0, 10)]],
}
SOFT: dict[str, Population] = {
    "of docs": [[*alike({0.25: 0.6, 1: 0.4}, 10), right(1, 3), right(0, 30)]],
    "four raters, others wrong": [
        [*alike({0: 0.3, 0.25: 0.3, 0.5: 0.2, 0.75: 0.1, 1: 0.1}, 10), Voxels(1, 6, 0.0), Voxels(0.5, 4, 0.9), right(0, 30)]
    ],
    "a small structure": [[*alike({0: 0.4, 0.25: 0.2, 0.5: 0.2, 1: 0.2}, 10), right(0, 200)]],
    "a large structure": [[*alike({0.25: 0.6, 0.75: 0.3, 1: 0.1}, 10), right(1, 60), right(0, 20)]],
    "raters nearly agree": [[*alike({0.75: 0.3, 1: 0.7}, 10), right(1, 5), right(0, 15)]],
}
#: Images of one size, each with its own ratio. In the first set the alike voxels are background in three images and foreground in one.
IMAGES: dict[str, Population] = {
    "images, hard": [*[[Voxels(0, 10), right(1, 10)]] * 3, [Voxels(1, 10), right(0, 10)]],
    "images, soft": [
        [*alike({0: 0.5, 0.25: 0.5}, 10), right(1, 20), right(0, 15)],
        [*alike({0.25: 0.2, 0.75: 0.4, 1: 0.4}, 5), right(1, 2), right(0, 38)],
    ],
}
ALL = {**HARD, **SOFT}
#: For variants of a loss that has been asked about all.
FEW = {name: ALL[name] for name in ("beside much that is right", "of docs", "four raters, others wrong")}

#: A teacher's probability of the voxels that look alike.
TAUGHT = 0.35

Minimum = Callable[[Population], float]


@dataclass(frozen=True)
class Case:
    """A loss, what it does to its input, and its theory."""

    name: str
    loss: Loss
    activation: str
    minimum: Minimum
    populations: Mapping[str, Population]


def of_parts(minimum: Callable[[Part], float]) -> Minimum:
    """Return what pools a population, as sums over a batch do."""
    return lambda population: minimum(part_of(population))


def norm_1(a: float, b: float) -> Minimum:
    return of_parts(lambda part: theory.jdt_minimum(part, a, b))


def norm_2(a: float) -> Minimum:
    return of_parts(lambda part: theory.squared_minimum(part, a))


def usual(a: float, b: float) -> Minimum:
    return of_parts(lambda part: theory.usual_minimum(part, a, b))


MEAN = of_parts(lambda part: float(part.t.mean()))


def terms(*of: tuple[float, Callable[[Part], Term]]) -> Minimum:
    """Return the lowest place of a weighted sum of terms."""
    return of_parts(lambda part: lowest(weighted([(weight, make(part)) for weight, make in of])))


def both(make: Callable[[Part], Term]) -> Callable[[Part], Term]:
    """Return the mean of a term over the two channels of a softmax."""
    return lambda part: weighted([(0.5, make(part)), (0.5, mirrored(make(background(part))))])


def image_mean(make: Callable[[Part], Term]) -> Minimum:
    def minimum(population: Population) -> float:
        return lowest(weighted([(1 / len(population), make(part_of([image]))) for image in population]))

    return minimum


def smoothed(minimum: Callable[[Part], float], e: float) -> Minimum:
    return lambda population: minimum(part_of(population, lambda t: (1 - e) * t + e / 2))


def jdt(a: float, b: float) -> Callable[[Part], Term]:
    return lambda part: theory.jdt(part, a, b)


def squared(a: float) -> Callable[[Part], Term]:
    return lambda part: theory.squared(part, a)


def focal(part: Part) -> Term:
    return theory.focal(part, 2.0)


def teacher(part: Part) -> Part:
    """Return what a teacher says: TAUGHT of the voxels that look alike, and the fixed prediction of the others."""
    return Part(np.full(len(part.t), TAUGHT), part.fixed_p, part.fixed_p)


def of_teacher(make: Callable[[Part], Term]) -> Callable[[Part], Term]:
    return lambda part: make(teacher(part))


def shifted(weight: float) -> Minimum:
    """A class weight w of one channel makes p of hard labels `w q / (w q + 1 - q)`, with q the share of foreground."""
    return of_parts(lambda part: float(weight * part.t.mean() / (weight * part.t.mean() + 1 - part.t.mean())))


def taught(loss: ours.DistillationLoss, labelled: bool = True) -> Loss:
    """Return a loss of (logits, label) whose teacher predicts TAUGHT where the prediction is the common p, the label elsewhere."""

    def value(logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        # the alike voxels come first, and the others of these populations are predicted right
        said = torch.where(torch.arange(label.shape[-1]) < 10, TAUGHT, label)
        return loss(logits, label if labelled else None, said.logit().clamp(-40, 40))

    return value


def one_head_smaller(loss: ours.SoftDeepSupervisionLoss) -> Loss:
    """Return the loss of a full head that is right and of a head of half the size, whose p is searched."""
    return lambda logits, label: loss([label, logits[..., ::2]], label)


def halves(population: Population) -> Population:
    """Return what area means make of neighbouring pairs of voxels."""
    (image,) = population
    labels = [voxels.label for voxels in image for _ in range(voxels.count)]
    fixed = [voxels.prediction for voxels in image for _ in range(voxels.count)]
    return [[Voxels((a + b) / 2, 1, p) for a, b, p in zip(labels[::2], labels[1::2], fixed[::2], strict=True)]]


RIGHT = {name: population for name, population in ALL.items() if all(v.prediction in (None, v.label) for v in population[0])}
EVEN: dict[str, Population] = {"pairs": [[Voxels(t, 1) for t in (0, 1, 0, 1, 0.25, 0.75, 0, 0.5, 1, 1)] + [right(1, 4), right(0, 20)]]}

jdt_loss, jdt_ce, jdt_focal, distillation = ours.JDTLoss, ours.JDTCELoss, ours.JDTFocalLoss, ours.DistillationLoss
CE, BOTH_1 = theory.cross_entropy, both(jdt(1, 1))

#: Of every public loss: at least one case, under its name.
CASES: dict[str, list[Case]] = {
    "JDTLoss": [
        Case("Jaccard", jdt_loss(**EAGER), "none", norm_1(1, 1), ALL),
        Case("more for misses", jdt_loss(alpha=0.3, beta=0.7, **EAGER), "none", norm_1(0.3, 0.7), ALL),
        Case("more for false positives", jdt_loss(alpha=0.9, beta=0.4, **EAGER), "none", norm_1(0.9, 0.4), ALL),
        Case("exponent", jdt_loss(gamma=2.0, **EAGER), "none", norm_1(1, 1), FEW),
        Case("logarithm", jdt_loss(log_loss=True, **EAGER), "none", norm_1(1, 1), FEW),
        Case("norm 2", jdt_loss(norm=2, **EAGER), "none", norm_2(1), ALL),
        Case("norm 2, another cost", jdt_loss(alpha=2, beta=2, norm=2, **EAGER), "none", norm_2(2), FEW),
        Case("sigmoid", jdt_loss(sigmoid=True, **EAGER), "sigmoid", norm_1(1, 1), FEW),
        Case("softmax, foreground", jdt_loss(False, softmax=True, **EAGER), "softmax", norm_1(1, 1), FEW),
        Case("softmax, both", jdt_loss(softmax=True, **EAGER), "softmax", terms((1, BOTH_1)), ALL),
        Case("softmax, both, norm 2", jdt_loss(softmax=True, norm=2, **EAGER), "softmax", terms((1, both(squared(1)))), ALL),
        Case(
            "pooled",
            jdt_loss(softmax=True, classes="pooled", **EAGER),
            "softmax",
            of_parts(lambda part: theory.quantile(part.t, 0.5)),
            ALL,
        ),
        Case(
            "smoothed labels",
            jdt_loss(sigmoid=True, label_smoothing=0.2, **EAGER),
            "sigmoid",
            smoothed(lambda part: theory.jdt_minimum(part, 1, 1), 0.2),
            FEW,
        ),
        Case("data set", jdt_loss(average="dataset", **EAGER), "none", norm_1(1, 1), IMAGES),
        Case("batch", jdt_loss(batch=True, norm=2, **EAGER), "none", norm_2(1), IMAGES),
        Case("images", jdt_loss(average="image", **EAGER), "none", image_mean(jdt(1, 1)), IMAGES),
        Case("class", jdt_loss(average="class", **EAGER), "none", image_mean(jdt(1, 1)), IMAGES),
        Case("images, norm 2", jdt_loss(norm=2, **EAGER), "none", image_mean(squared(1)), IMAGES),
    ],
    "JaccardMetricLoss": [
        Case("norm 1", ours.JaccardMetricLoss(**EAGER), "none", norm_1(1, 1), ALL),
        Case("norm 2", ours.JaccardMetricLoss(norm=2, **EAGER), "none", norm_2(1), ALL),
    ],
    "DiceSemimetricLoss": [
        Case("norm 1", ours.DiceSemimetricLoss(**EAGER), "none", norm_1(0.5, 0.5), ALL),
        Case("norm 2", ours.DiceSemimetricLoss(norm=2, **EAGER), "none", norm_2(0.5), ALL),
    ],
    "CompatibleTverskyLoss": [
        Case("Dice", ours.CompatibleTverskyLoss(**EAGER), "none", norm_1(0.5, 0.5), ALL),
        Case("F2", ours.CompatibleTverskyLoss(alpha=0.2, beta=0.8, **EAGER), "none", norm_1(0.2, 0.8), ALL),
    ],
    "JDTCELoss": [
        Case("cross-entropy alone", jdt_ce(sigmoid=True, lambda_jdt=0, lambda_ce=1, **EAGER), "sigmoid", MEAN, ALL),
        Case(
            "cross-entropy, smoothed",
            jdt_ce(sigmoid=True, lambda_jdt=0, label_smoothing=0.2, **EAGER),
            "sigmoid",
            smoothed(lambda part: float(part.t.mean()), 0.2),
            FEW,
        ),
        Case("cross-entropy, weighted", jdt_ce(sigmoid=True, lambda_jdt=0, weight=3.0, **EAGER), "sigmoid", shifted(3.0), HARD),
        Case("defaults", jdt_ce(sigmoid=True, **EAGER), "sigmoid", terms((0.75, jdt(1, 1)), (0.25, CE)), ALL),
        Case("softmax", jdt_ce(softmax=True, **EAGER), "softmax", terms((0.75, BOTH_1), (0.25, CE)), ALL),
        Case("norm 2", jdt_ce(sigmoid=True, norm=2, **EAGER), "sigmoid", terms((0.75, squared(1)), (0.25, CE)), ALL),
        Case(
            "half and half, Dice",
            jdt_ce(sigmoid=True, lambda_jdt=0.5, lambda_ce=0.5, alpha=0.5, beta=0.5, **EAGER),
            "sigmoid",
            terms((0.5, jdt(0.5, 0.5)), (0.5, CE)),
            ALL,
        ),
    ],
    "JDTFocalLoss": [
        Case("focal alone", jdt_focal(sigmoid=True, lambda_jdt=0, **EAGER), "sigmoid", terms((1, focal)), ALL),
        Case("defaults", jdt_focal(sigmoid=True, **EAGER), "sigmoid", terms((0.75, jdt(1, 1)), (0.25, focal)), ALL),
        Case("softmax", jdt_focal(softmax=True, **EAGER), "softmax", terms((0.75, BOTH_1), (0.25, focal)), ALL),
    ],
    "DistillationLoss": [
        Case(
            "means",
            taught(distillation(sigmoid=True, lambda_jdt=0, lambda_label=0.7, lambda_teacher=0.3, **EAGER)),
            "sigmoid",
            of_parts(lambda part: float(0.7 * part.t.mean() + 0.3 * TAUGHT)),
            RIGHT,
        ),
        Case(
            "teacher alone",
            taught(distillation(sigmoid=True, temperature=2.0, **EAGER), labelled=False),
            "sigmoid",
            lambda _: TAUGHT,
            RIGHT,
        ),
        Case(
            "little teacher",
            taught(distillation(sigmoid=True, lambda_label=0.9, lambda_teacher=0.1, **EAGER)),
            "sigmoid",
            terms((0.675, jdt(1, 1)), (0.225, CE), (0.075, of_teacher(jdt(1, 1))), (0.025, of_teacher(CE))),
            RIGHT,
        ),
        Case(
            "temperature",
            taught(distillation(sigmoid=True, temperature=3.0, lambda_jdt=0, lambda_ce=1, **EAGER)),
            "sigmoid",
            terms((0.5, CE), (0.5, of_teacher(lambda part: theory.divergence(part, 3.0)))),
            RIGHT,
        ),
    ],
    "SoftDeepSupervisionLoss": [
        Case("one head", ours.SoftDeepSupervisionLoss(ours.JDTLoss(**EAGER)), "none", norm_1(1, 1), FEW),
        Case(
            "a smaller head",
            one_head_smaller(ours.SoftDeepSupervisionLoss(ours.JDTLoss(**EAGER))),
            "none",
            lambda population: norm_1(1, 1)(halves(population)),
            EVEN,
        ),
    ],
    "LovaszSoftmaxLoss": [Case("hard labels", ours.LovaszSoftmaxLoss(), "softmax", of_parts(theory.lovasz_minimum), HARD)],
    "JaccardDistance": [Case("vectors", ours.JaccardDistance(), "none", norm_1(1, 1), FEW)],
    "DiceDistance": [Case("vectors", ours.DiceDistance(), "none", norm_1(0.5, 0.5), FEW)],
}

#: Public names of `monai_jdt.losses` that are no loss of a prediction and a label.
NO_LOSSES = {"loss_for_metric": "returns arguments of the losses above"}

#: What users come from, and what the study compares with.
OTHERS: list[Case] = [
    Case("MONAI DiceLoss", theirs.DiceLoss(**EXACT), "none", usual(0.5, 0.5), ALL),
    Case("MONAI DiceLoss(jaccard)", theirs.DiceLoss(jaccard=True, **EXACT), "none", usual(1, 1), FEW),
    Case("MONAI DiceLoss(squared_pred)", theirs.DiceLoss(squared_pred=True, **EXACT), "none", norm_2(0.5), ALL),
    Case("MONAI DiceLoss(soft_label)", theirs.DiceLoss(soft_label=True, **EXACT), "none", norm_1(0.5, 0.5), ALL),
    Case("MONAI TverskyLoss", theirs.TverskyLoss(alpha=0.3, beta=0.7, **EXACT), "none", usual(0.3, 0.7), ALL),
    Case(
        "MONAI TverskyLoss(soft_label)",
        theirs.TverskyLoss(alpha=0.3, beta=0.7, soft_label=True, **EXACT),
        "none",
        norm_1(0.3, 0.7),
        ALL,
    ),
    Case(
        "MONAI DiceCELoss",
        theirs.DiceCELoss(sigmoid=True, **EXACT),
        "sigmoid",
        terms((1, lambda part: theory.usual(part, 0.5, 0.5)), (1, CE)),
        ALL,
    ),
    Case(
        "MONAI DiceCELoss, softmax",
        theirs.DiceCELoss(softmax=True, **EXACT),
        "softmax",
        terms((1, both(lambda part: theory.usual(part, 0.5, 0.5))), (1, CE)),
        FEW,
    ),
    Case("fixed denominator", FixedDenominatorLoss(), "softmax", MEAN, ALL),
    Case(
        "fixed denominator and CE",
        SumOfLosses([FixedDenominatorLoss(), jdt_ce(softmax=True, lambda_jdt=0, **EAGER)], [0.75, 0.25]),
        "softmax",
        MEAN,
        FEW,
    ),
]


def test_every_public_loss_has_a_case() -> None:
    assert set(CASES) | set(NO_LOSSES) == set(ours.__all__)
    assert not set(CASES) & set(NO_LOSSES)
    assert all(CASES.values())


EVERY = [pytest.param(case, id=f"{owner}: {case.name}") for owner, cases in [*CASES.items(), ("others", OTHERS)] for case in cases]


@pytest.mark.parametrize("case", EVERY)
def test_the_search_finds_what_theory_says(case: Case) -> None:
    found = {name: minimiser(case.loss, population, case.activation) for name, population in case.populations.items()}
    assert found == pytest.approx({name: case.minimum(population) for name, population in case.populations.items()}, abs=2e-5)


def test_the_level_is_the_known_rule() -> None:
    """For Dice (1 + L) / 2; hard labels are 1 where more than half the Dice are foreground; Jaccard is the same place."""
    for dice in (0.1, 0.5, 0.9):
        assert theory.quantile_level(1 - dice, 0.5, 0.5) == pytest.approx(1 - dice / 2)
        jaccard = dice / (2 - dice)
        assert theory.quantile_level(1 - jaccard, 1, 1) == pytest.approx(1 - dice / 2)
    # Tversky of score T: foreground above a T / (1 + (a + b - 1) T), which is 1 - level
    assert 1 - theory.quantile_level(0.4, 0.3, 0.9) == pytest.approx(0.3 * 0.6 / (1 + 0.2 * 0.6))


def test_a_quantile_is_where_the_slope_changes_its_sign() -> None:
    """Dinkelbach's iteration and the zeros of the slope are two ways to one place."""
    for population in ALL.values():
        part = part_of(population)
        assert lowest(theory.jdt(part, 0.3, 0.7)) == pytest.approx(theory.jdt_minimum(part, 0.3, 0.7), abs=1e-8)
        assert lowest(theory.squared(part, 1)) == pytest.approx(theory.squared_minimum(part, 1), abs=1e-8)


def test_the_mean_over_images_can_be_smallest_between_hard_labels() -> None:
    """Three images of loss p / (2 + p) and one of (1 - p) / (1 + p): slopes 6 / (2 + p)^2 and -2 / (1 + p)^2, equal at .366."""
    loss = ours.DiceSemimetricLoss(average="image", **EAGER)
    root = (2 - np.sqrt(3)) / (np.sqrt(3) - 1)
    assert minimiser(loss, IMAGES["images, hard"], "none") == pytest.approx(root, abs=2e-5)


def test_shares_that_are_no_whole_numbers_of_voxels_are_refused() -> None:
    with pytest.raises(ValueError, match="whole"):
        alike({0: 0.25, 1: 0.75}, 10)


# ------------------------------------------------------------------------------------------------------------------ the page

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "what_p_means.md").read_text("utf-8")
#: The columns of its table: labels of raters, the same in a hundredth of the image, hard labels.
COLUMNS: list[Population] = [
    SOFT["of docs"],
    [[*alike({0.25: 0.6, 1: 0.4}, 10), right(1, 3), right(0, 1000)]],
    HARD["beside little"],
]


def shown(call: str) -> list[str]:
    """Return the three numbers of a row, for a call such as `JDTCELoss(norm=2)`."""
    name, arguments = re.fullmatch(r"(\w+)\((.*)\)", call).groups()  # type: ignore[union-attr]
    options: dict[str, Any] = eval(f"dict({arguments})")
    activation = "softmax" if "softmax" in options or name in ("LovaszSoftmaxLoss", "FixedDenominatorLoss") else "sigmoid"
    if name == "FixedDenominatorLoss":
        loss: Loss = FixedDenominatorLoss()
    elif name == "LovaszSoftmaxLoss":
        loss = ours.LovaszSoftmaxLoss()
    else:
        given = {**(EAGER if hasattr(ours, name) else EXACT), **options, **({"sigmoid": True} if activation == "sigmoid" else {})}
        loss = getattr(ours if hasattr(ours, name) else theirs, name)(**given)
    columns = [None, None, COLUMNS[2]] if name == "LovaszSoftmaxLoss" else COLUMNS
    return ["" if column is None else f"{minimiser(loss, column, activation):.3f}".removeprefix("0") for column in columns]


def test_the_table_of_the_page_is_what_the_losses_do() -> None:
    rows = re.findall(r"^\| `(.+?)` \| ([\d.]+ )?\| ([\d.]+ )?\| ([\d.]+) \|", PAGE, re.MULTILINE)
    assert len(rows) >= 15
    for call, *numbers in rows:
        assert [number.strip() for number in numbers] == shown(call), call


def test_the_page_names_every_loss() -> None:
    for name in [*CASES, "FixedDenominatorLoss", "DiceLoss", "DiceCELoss", "TverskyLoss"]:
        assert name in PAGE
