"""The experiments: each is a bundle with overlays and keys on one set. Nothing else differs between two cells of a set.

The plan is in docs/study.md. It was written before the first result, and so was this file, `.9 CE + .1 JML` a day later.
What is added after the first result says so: `faster`, and the phantoms of imbalance with `averages`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from benchmarks.study.sets import DIFFICULTIES

SEEDS = (0, 1, 2, 3, 4)


@dataclass(frozen=True)
class Cell:
    """One experiment.

    Args:
        set: a name of `SETS`.
        name: what is done, for people; unique in a set.
        overlays: files of the bundle's `configs` or of this folder's `overlays`, without their ending, in their order.
        keys: of the bundle, over those of the set.
        network: an overlay, too.
        processes: that train together, by torchrun.
    """

    set: str
    name: str
    overlays: tuple[str, ...]
    keys: Mapping[str, Any] = field(default_factory=dict)
    network: str = "unet"
    processes: int = 1

    @property
    def slug(self) -> str:
        """Its folder, for file systems."""
        text = "".join(letter if letter.isalnum() else " " for letter in f"{self.set} {self.network} {self.name}".lower())
        return "_".join(text.split())


AVERAGE, MAJORITY, RANDOM = {"label_source": "average"}, {"label_source": "majority"}, {"label_source": "random_rater"}
#: Overlap sums over the batch, as in MONAI's losses beside them.
DATASET = "average_dataset"

#: What every set has: the usual pipeline, its losses on the soft label, and those of the package.
USUAL = "DiceCE, majority"
JDT = "CE + JML, average"
CE = "CE, average"


def core(name: str) -> list[Cell]:
    """Return the cells that every set has."""
    return [
        Cell(name, USUAL, ("dice_ce",), MAJORITY),
        Cell(name, CE, ("loss_ce",), AVERAGE),
        Cell(name, "DiceCE, average", ("dice_ce",), AVERAGE),
        Cell(name, JDT, ("loss_jml", DATASET), AVERAGE),
        Cell(name, "CE + JML norm 2, average", ("loss_jml", DATASET), AVERAGE | {"loss#norm": 2}),
    ]


def forms(name: str) -> list[Cell]:
    """Return the weights of the recipe, and forms of our own: what may be better than the recipe."""
    return [
        Cell(name, "JML alone, average", ("loss_jml", DATASET), AVERAGE | weights(1.0)),
        Cell(name, ".5 CE + .5 JML, average", ("loss_jml", DATASET), AVERAGE | weights(0.5)),
        Cell(name, ".75 CE + .25 JML, average", ("loss_jml", DATASET), AVERAGE | weights(0.25)),
        Cell(name, ".9 CE + .1 JML, average", ("loss_jml", DATASET), AVERAGE | weights(0.1)),
        Cell(name, "CE + fixed denominator, average", ("fixed_denominator",), AVERAGE),
        Cell(name, "CE + JML scheduled, average", ("scheduled",), AVERAGE),
    ]


def all_of_lidc2d() -> list[Cell]:
    """Return the cells of the set on which every question is asked."""
    name = "lidc2d"
    jml = ("loss_jml", DATASET)
    cells = [*core(name), *forms(name)]
    # which other loss, on the average
    cells += [
        Cell(name, "soft DiceCE, average", ("soft_dice_ce",), AVERAGE),
        Cell(name, "CE + DML, average", ("loss_dml", DATASET), AVERAGE),
        Cell(name, "soft Dice alone, average", ("loss_soft_dice",), AVERAGE | {"loss#batch": True}),
    ]
    # which label
    cells += [
        Cell(name, "CE, majority", ("loss_ce",), MAJORITY),
        Cell(name, "CE + JML, majority", jml, MAJORITY),
        Cell(name, "CE + Lovasz, majority", ("lovasz_ce",), MAJORITY),
        Cell(name, "DiceCE, random rater", ("dice_ce",), RANDOM),
        Cell(name, "CE + JML, random rater", jml, RANDOM),
        Cell(name, "CE + JML, weighted", jml, {"label_source": "weighted"}),
        Cell(name, "CE + JML, staple", jml, {"label_source": "staple"}),
    ]
    # which average, and smoothing. With one structure an average over classes is one over images
    cells += [
        Cell(name, "CE + JML by image, average", ("loss_jml", "average_image"), AVERAGE),
        Cell(name, "CE + JML, majority, smoothed everywhere", (*jml, "smoothing_uniform"), MAJORITY),
        Cell(name, "CE + JML, majority, smoothed near borders", (*jml, "smoothing_boundary"), MAJORITY),
    ]
    # how it is trained
    for base in [cell for cell in core(name) if cell.name in (USUAL, CE, JDT)]:
        cells.append(replace(base, name=f"{base.name}, half the epochs", keys={**base.keys, "epochs": EPOCHS[name] // 2}))
        cells.append(replace(base, name=f"{base.name}, batches of 4", keys={**base.keys, "batch_size": 4}))
        cells.append(replace(base, network="segresnet_small"))
    two = {"batch_size": 8, "process_group_backend": "gloo"}
    cells += [
        Cell(name, f"{JDT}, two ranks, sync {sync}", ("multi_gpu_train", *jml), {**AVERAGE, **two, "sync": sync == "on"}, processes=2)
        for sync in ("on", "off")
    ]
    return cells


def averages(name: str) -> list[Cell]:
    """Return how the overlap is averaged (arXiv:2310.19252), over all classes or those that an image has. The core's is over the batch.

    With all classes, an average over classes is the one over images.
    """
    present = AVERAGE | {"loss#classes": "present"}
    return [
        Cell(name, "CE + JML by image, average", ("loss_jml", "average_image"), AVERAGE),
        Cell(name, "CE + JML by image, present, average", ("loss_jml", "average_image"), present),
        Cell(name, "CE + JML by class, present, average", ("loss_jml", "average_class"), present),
    ]


def weights(jdt: float) -> dict[str, float]:
    return {"loss#lambda_jdt": jdt, "loss#lambda_ce": 1 - jdt}


#: Of each set: where the baseline's validation score is flat, in trials of `tune.py` with other seeds.
EPOCHS = {"lidc2d": 10, "lidc3d": 30, "chase": 10, **{f"phantom {name}": 150 if name == "few" else 15 for name in DIFFICULTIES}}
#: Chosen for the baseline by the same trials. CHASE has those of LIDC's slices: each of its patients is tested in some fold.
LEARNING_RATES = {
    "lidc2d": 0.001,
    "lidc3d": 0.002,
    "chase": 0.001,
    "phantom plain": 0.004,
    "phantom disagreement": 0.0005,
    "phantom bias": 0.0005,
    "phantom small": 0.004,
    "phantom imbalance": 0.004,
    "phantom missing": 0.004,
    "phantom few": 0.001,
}

#: Phantoms whose baseline has a rate at which others are not trained to their end, and a rate at which they are.
SLOW, FASTER_RATE = ("disagreement", "bias", "few"), 0.004


def at_faster_rate(name: str) -> str:
    """Return a core cell's name at the other rate."""
    return f"{name}, rate {FASTER_RATE}"


def faster(name: str) -> list[Cell]:
    """Return the core cells at the other rate. They were added after the first result of phantoms."""
    return [replace(cell, name=at_faster_rate(cell.name), keys={**cell.keys, "learning_rate": FASTER_RATE}) for cell in core(name)]


CELLS: tuple[Cell, ...] = (
    *all_of_lidc2d(),
    *(replace(cell, network="unet_3d") for cell in (*core("lidc3d"), *forms("lidc3d"))),
    *core("chase"),
    *(cell for name in DIFFICULTIES for cell in core(f"phantom {name}")),
    *(cell for name in SLOW for cell in faster(f"phantom {name}")),
    *averages("phantom imbalance"),
)
