"""Draw the pictures of which_loss.md and what_p_means.md: `python -m docs.make_figures`, in the repository's folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from monai.losses import DiceCELoss, DiceLoss, FocalLoss

from benchmarks.population_minima import Voxels, alike, label_of, minimiser, right
from monai_jdt import value_checks
from monai_jdt.functional.lovasz import lovasz_extension
from monai_jdt.losses import DiceSemimetricLoss, JaccardMetricLoss, JDTCELoss, JDTFocalLoss, LovaszSoftmaxLoss

IMAGES = Path(__file__).resolve().parent / "images"
LABELS = (0.0, 0.3, 0.5, 0.7, 1.0)
# Okabe and Ito's colours
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00")
NO_SMOOTHING = {"smooth_nr": 1e-7, "smooth_dr": 1e-7}

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def of_batch(loss: torch.nn.Module) -> Loss:
    """A loss of probabilities `(K, voxels)`, one value for each of the K."""
    return lambda p, t: loss(p[:, None], t[:, None]).reshape(len(p), -1).mean(1)


def cross_entropy(p: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.binary_cross_entropy(p, t, reduction="none").mean(-1)


def usual_focal(p: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    return FocalLoss(reduction="none", gamma=2.0)(torch.logit(p, eps=1e-6)[:, None], t[:, None]).mean((1, 2))


def lovasz(p: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    return lovasz_extension((p - t).abs(), t > 0.5, torch.ones_like(t, dtype=torch.bool))


SUBJECTS: dict[str, Loss] = {
    "usual soft Dice": of_batch(DiceLoss(reduction="none", **NO_SMOOTHING)),
    "usual soft Jaccard": of_batch(DiceLoss(jaccard=True, reduction="none", **NO_SMOOTHING)),
    "Lovász (hard labels only)": lovasz,
    "cross-entropy": cross_entropy,
    "usual focal loss": usual_focal,
    "Dice semimetric loss": of_batch(DiceSemimetricLoss(reduction="none", **NO_SMOOTHING)),
    "Jaccard metric loss": of_batch(JaccardMetricLoss(reduction="none", **NO_SMOOTHING)),
}


def curves() -> None:
    """Loss against the prediction of one voxel, beside one foreground voxel that is predicted right."""
    figure = Figure(figsize=(13, 6.4), layout="constrained")
    axes = figure.subplots(2, 4, sharex=True).ravel()
    p = torch.linspace(0, 1, 1001)
    for axis, (name, loss) in zip(axes, SUBJECTS.items(), strict=False):
        for label, colour in zip(LABELS, COLOURS, strict=True):
            if loss is lovasz and label not in (0.0, 1.0):
                continue
            companion = torch.ones_like(p)
            values = loss(torch.stack([p, companion], 1), torch.stack([torch.full_like(p, label), companion], 1))
            axis.plot(p, values, color=colour, linewidth=1.8)
            best = int(values.argmin())
            right = abs(float(p[best]) - label) < 0.005
            axis.plot(p[best], values[best], "o" if right else "X", color=colour, markersize=9, markeredgecolor="black", clip_on=False)
        axis.set_title(name, fontweight="bold" if "metric" in name else None)
        axis.set_ylim(0, {"cross-entropy": 1.6, "usual focal loss": 0.8}.get(name, 0.6))
        axis.set_xticks([0, 0.3, 0.5, 0.7, 1])
        axis.set_xlabel("prediction")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("loss")
    axes[4].set_ylabel("loss")
    axes[7].axis("off")
    for label, colour in zip(LABELS, COLOURS, strict=True):
        axes[7].plot([], [], color=colour, linewidth=1.8, label=f"label {label:g}")
    axes[7].plot([], [], "o", color="white", markeredgecolor="black", markersize=9, label="smallest at the label")
    axes[7].plot([], [], "X", color="white", markeredgecolor="black", markersize=9, label="smallest elsewhere")
    axes[7].legend(loc="center", frameon=False, fontsize=12)
    figure.savefig(IMAGES / "loss_curves.png", dpi=100)


def level_sets() -> None:
    """The loss of two voxels with labels .3 and .7."""
    label = (0.3, 0.7)
    side = np.linspace(0, 1, 201)
    first, second = np.meshgrid(side, side, indexing="ij")
    p = torch.tensor(np.stack([first.ravel(), second.ravel()], 1), dtype=torch.float32)
    t = torch.tensor(label).expand(len(p), 2)
    figure = Figure(figsize=(13, 3.2), layout="constrained")
    names = ("usual soft Dice", "usual soft Jaccard", "cross-entropy", "Dice semimetric loss", "Jaccard metric loss")
    for axis, name in zip(figure.subplots(1, 5, sharey=True), names, strict=True):
        with value_checks("off"):
            values = SUBJECTS[name](p, t).reshape(first.shape).numpy()
        shown = np.clip(values, None, np.quantile(values, 0.97))
        axis.contourf(first, second, shown, levels=18, cmap="cividis")
        axis.contour(first, second, shown, levels=18, colors="white", linewidths=0.4)
        best = np.unravel_index(values.argmin(), values.shape)
        axis.plot(*label, "o", color="white", markeredgecolor="black", markersize=10, label="label", clip_on=False)
        axis.plot(
            side[best[0]], side[best[1]], "X", color="#D55E00", markeredgecolor="black", markersize=9, label="smallest", clip_on=False
        )
        axis.set_title(name, fontweight="bold" if "metric" in name else None)
        axis.set_xlabel("prediction of voxel 1 (label .3)")
        axis.set_aspect("equal")
    figure.axes[0].set_ylabel("prediction of voxel 2 (label .7)")
    figure.axes[0].legend(loc="lower right")
    figure.savefig(IMAGES / "level_sets.png", dpi=100)


#: Without smoothing, so that the place of a minimum does not depend on how many voxels there are.
EXACT: dict[str, Any] = {"smooth_nr": 0.0, "smooth_dr": 0.0}
EAGER: dict[str, Any] = {**EXACT, "sigmoid": True, "backend": "eager"}
#: Losses of the third picture: name, module, activation, colour, line.
ALONE: list[tuple[str, torch.nn.Module, str, str, str]] = [
    ("Jaccard metric, Dice semimetric loss", DiceSemimetricLoss(**EAGER), "sigmoid", "#0072B2", "-"),
    ("the same with norm=2", DiceSemimetricLoss(norm=2, **EAGER), "sigmoid", "#E69F00", "-"),
    ("usual soft Dice (MONAI)", DiceLoss(sigmoid=True, **EXACT), "sigmoid", "#D55E00", "--"),
    ("Lovász (hard labels only)", LovaszSoftmaxLoss(), "softmax", "#009E73", "-."),
]
COMPOUNDS: list[tuple[str, torch.nn.Module, str, str, str]] = [
    ("JDTCELoss: .75 JML + .25 CE", JDTCELoss(**EAGER), "sigmoid", "#0072B2", "-"),
    ("the same with norm=2", JDTCELoss(norm=2, **EAGER), "sigmoid", "#E69F00", "-"),
    ("usual soft Dice + CE (MONAI)", DiceCELoss(sigmoid=True, **EXACT), "sigmoid", "#D55E00", "--"),
    ("JDTFocalLoss: .75 JML + .25 focal", JDTFocalLoss(**EAGER), "sigmoid", "#009E73", "-."),
]
#: How many voxels look alike.
ALIKE = 40


def hard_mixtures() -> list[list[Voxels]]:
    """Voxels of which a share is labelled 1, and the others 0."""
    return [alike({0: 1 - k / ALIKE, 1: k / ALIKE}, ALIKE) for k in range(ALIKE + 1)]


def soft_mixtures() -> list[list[Voxels]]:
    """Voxels labelled by four raters, so in quarters. Their log-odds are spread by 1.5 around a centre, which grows."""
    spread = [1.5 * NormalDist().inv_cdf((k + 0.5) / ALIKE) for k in range(ALIKE)]
    centres = np.linspace(-6, 6, 41)
    return [[Voxels(round(4 / (1 + np.exp(-centre - far))) / 4, 1) for far in spread] for centre in centres]


def minima() -> None:
    """The p that a loss asks for at voxels that look alike, against the mean of their labels."""
    beside: list[tuple[str, list[Voxels]]] = [
        ("overlap alone, the rest is right", [right(1, 40), right(0, 80)]),
        ("overlap alone, half the rest is missed", [right(1, 20), Voxels(1, 20, 0.0), right(0, 80)]),
        ("with CE, 1/4 to 1/2 is foreground", [right(1, 40), right(0, 80)]),
        ("with CE, 1/80 to 1/16 is foreground", [right(1, 10), right(0, 750)]),
    ]
    figure = Figure(figsize=(13, 8.4), layout="constrained")
    rows = figure.subplots(2, 4, sharex=True, sharey=True)
    for axis, (title, _) in zip(rows[0], beside, strict=True):
        axis.set_title(title, fontsize=11)
    for axes, mixtures, labels in zip(rows, (hard_mixtures(), soft_mixtures()), ("hard labels", "four raters' average"), strict=True):
        for axis, (_, others), losses in zip(axes, beside, (ALONE, ALONE, COMPOUNDS, COMPOUNDS), strict=True):
            _curves_of_minima(axis, [mixture + others for mixture in mixtures], mixtures, losses)
            axis.set_aspect("equal")
            axis.grid(alpha=0.3)
        axes[0].set_ylabel(f"{labels}: p of the minimum")
    for axis in rows[1]:
        axis.set_xlabel("mean label of the voxels")
    for axis, losses in ((rows[0][0], ALONE), (rows[0][2], COMPOUNDS)):
        handles, names = axis.get_legend_handles_labels()
        where = "outside lower left" if losses is ALONE else "outside lower right"
        figure.legend(handles, names, loc=where, ncols=2, fontsize=10, frameon=False)
    figure.savefig(IMAGES / "minima.png", dpi=100)


def _curves_of_minima(
    axis: Axes, images: list[list[Voxels]], mixtures: list[list[Voxels]], losses: list[tuple[str, torch.nn.Module, str, str, str]]
) -> None:
    means = [float(label_of([mixture]).mean()) for mixture in mixtures]
    axis.plot([0, 1], [0, 1], color="0.55", linewidth=5, alpha=0.5, label="the mean: calibrated (cross-entropy alone)")
    for name, loss, activation, colour, line in losses:
        if isinstance(loss, LovaszSoftmaxLoss) and any(voxels.label not in (0, 1) for mixture in mixtures for voxels in mixture):
            continue
        axis.plot(means, [minimiser(loss, [image], activation) for image in images], line, color=colour, linewidth=1.8, label=name)


if __name__ == "__main__":
    IMAGES.mkdir(exist_ok=True)
    curves()
    level_sets()
    minima()
