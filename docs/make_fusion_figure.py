"""Draw the picture of fusion.md: `python docs/make_fusion_figure.py`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from monai_jdt.data import RaterStyle, brats_phantom
from monai_jdt.raters import dice_weights, estimate_staple
from monai_jdt.transforms import FuseRaters

IMAGES = Path(__file__).resolve().parent / "images"
REGION = {"whole tumour": [1, 2, 4]}
STYLES = (
    RaterStyle("draws wide", bias_mm=3.0, sd_mm=1.0, length_mm=4.0),
    RaterStyle("draws tight", bias_mm=-2.5, sd_mm=1.0, length_mm=4.0),
    RaterStyle("jagged", bias_mm=0.0, sd_mm=1.6, length_mm=1.2),
    RaterStyle("smooth", bias_mm=0.5, sd_mm=1.0, length_mm=6.0),
    RaterStyle("drew nothing", bias_mm=-99.0),
)
METHODS = ("average", "dice_weighted", "staple", "majority", "intersection", "union")
SOFT = LinearSegmentedColormap.from_list("soft", ["#ffffff00", "#56B4E9", "#0072B2", "#002b4d"])


def main() -> None:
    case = brats_phantom(1, shape=(56, 56, 40), spacing=(2.0, 2.0, 2.0), seed=3, styles=STYLES, small_lesion=False)
    votes = torch.from_numpy(np.stack(list(case.raters.values())).astype(np.uint8))
    fused = {method: FuseRaters(REGION, method)(votes)[0].numpy() for method in METHODS}
    weights = dice_weights(votes, list(REGION.values()))
    _, estimates = estimate_staple(votes, list(REGION.values()))

    average = fused["average"]
    z = int(average.sum((0, 1)).argmax())
    rows, columns = (np.flatnonzero(fused["union"][..., z].any(axis)) for axis in (1, 0))
    # a square around what anyone marked
    half = max(np.ptp(rows), np.ptp(columns)) // 2 + 4
    top, left = (max(0, int(where.mean()) - half) for where in (rows, columns))
    window = (slice(top, top + 2 * half), slice(left, left + 2 * half), z)

    figure = Figure(figsize=(13, 7.8), layout="constrained")
    figure.get_layout_engine().set(hspace=0.06)
    axes = figure.subplots(3, 6, gridspec_kw={"height_ratios": [1, 1, 1]})
    flair = case.image[3][window]
    for axis in axes.ravel():
        axis.set_xticks([])
        axis.set_yticks([])
    axes[0, 0].imshow(flair, cmap="gray")
    axes[0, 0].set_title("image and majority")
    axes[0, 0].contour(fused["majority"][window], [0.5], colors="#E69F00", linewidths=1.5)
    for number, (axis, style) in enumerate(zip(axes[0, 1:], STYLES, strict=True)):
        marked = np.isin(votes[number].numpy(), REGION["whole tumour"])[window]
        axis.imshow(flair, cmap="gray", alpha=0.5)
        axis.imshow(np.where(marked, 1.0, np.nan), cmap="Oranges", vmin=0, vmax=1.6, alpha=0.75)
        axis.set_title(f"rater {number + 1}: {style.name}")
        sensitivity, specificity = estimates.sensitivity[number, 0], estimates.specificity[number, 0]
        axis.set_xlabel(f"Dice weight {weights[number]:.2f}\nSTAPLE se {sensitivity:.2f}, sp {specificity:.3f}", fontsize=9)
    for column, (method, label) in enumerate(fused.items()):
        shown = axes[1, column].imshow(label[window], cmap=SOFT, vmin=0, vmax=1, interpolation="nearest")
        axes[1, column].set_title(f'"{method}"', family="monospace")
        axes[1, column].set_xlabel(f"sum {label.sum():.0f} voxels", fontsize=9)
        if method == "average":
            axes[2, column].hist(label[label > 0], bins=np.linspace(0.1, 1.1, 6), color="#0072B2", rwidth=0.8)
            axes[2, column].set_xticks([0.2, 0.4, 0.6, 0.8, 1.0])
            axes[2, column].set_title("its values above 0", fontsize=10)
        else:
            change = axes[2, column].imshow(label[window] - average[window], cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest")
            axes[2, column].set_title("minus the average", fontsize=10)
            axes[2, column].set_xlabel(f"mean |difference| {np.abs(label - average)[average > 0].mean():.2f}", fontsize=9)
    figure.colorbar(shown, ax=axes[1, :], label="label", shrink=0.9, pad=0.01)
    figure.colorbar(change, ax=axes[2, :], label="difference", shrink=0.9, pad=0.01)
    IMAGES.mkdir(exist_ok=True)
    figure.savefig(IMAGES / "fusion.png", dpi=90)


if __name__ == "__main__":
    main()
