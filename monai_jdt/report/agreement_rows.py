"""How much the raters of one case agree: every number of the verb `raters`, as rows."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import combinations
from typing import Any

import numpy as np
import torch

from monai_jdt.data.files.foreground import Foreground
from monai_jdt.data.files.grids import voxel_edges
from monai_jdt.data.files.volumes import WITHOUT_PLACE
from monai_jdt.data.inspection.mirrored_raters import MarkedVoxels, turned_raters
from monai_jdt.functional.metric_labels import LabelRule
from monai_jdt.functional.rater_agreement import AgreementKind, rater_agreement
from monai_jdt.functional.region_members import region_members
from monai_jdt.functional.set_overlap import SetOverlap, set_overlap
from monai_jdt.raters.staple import estimate_staple
from monai_jdt.transforms.load_raters import LoadRaters

#: The columns of a row. `value` is a number, and `note` a sentence of a warning.
COLUMNS = ("case", "patient", "region", "rater", "other", "score", "value", "note")
#: Distances between the boundaries of two raters, with their unit: pixels where no file says how large a voxel is.
DISTANCES = ("surface_distance_mm", "hausdorff95_mm", "surface_distance_px", "hausdorff95_px")
#: Sizes of what a rater marked, likewise.
SIZES = ("volume_ml", "area_cm2", "volume_voxels")
#: Scores of a pair of raters.
PAIR_SCORES = ("dice", "jaccard", *DISTANCES)


@dataclass(frozen=True)
class AgreementCase:
    """One case of a list.

    Args:
        name: the case's.
        patient: whose it is; cases of a patient are not independent.
        files: each rater's label map.
        raters: each rater's name, or "rater 1", ... where raters have none.
        regions: name to label values.
        boundary: whether to measure distances between boundaries.
        foreground: of the files; see :class:`monai_jdt.transforms.LoadRaters`.
    """

    name: str
    patient: str
    files: tuple[str, ...]
    raters: tuple[str, ...]
    regions: Mapping[str, tuple[int, ...]]
    boundary: bool = True
    foreground: Foreground | None = None


def can_measure_boundaries() -> bool:
    """Return whether MONAI's surface distances can run: they need scipy."""
    return find_spec("scipy") is not None


def agreement_rows(case: AgreementCase) -> list[dict[str, Any]]:
    """Compare the raters of a case.

    In each region: for each rater the volume (ml; in 2D cm2) and its STAPLE sensitivity and specificity; for each pair of raters Dice,
    Jaccard, and with `boundary` the mean symmetric surface distance and the 95th percentile of the Hausdorff distance in mm (MONAI's);
    Fleiss' kappa of all raters. Pictures have no voxel size: their sizes are in voxels, their distances in pixels. Two raters with the
    same voxels, a rater who marked nothing in any region, and a mirrored rater are rows with a note.

    Args:
        case: its files and regions.

    Returns:
        Rows with the keys :data:`COLUMNS`. An undefined value is NaN: Dice of two empty drawings, the boundary of an empty one.

    Raises:
        DataProblemError: a file that cannot be read, or another grid than the first rater's.
    """
    votes = LoadRaters(foreground=case.foreground)(list(case.files))
    stack = votes.as_tensor()
    placed = not all(path.lower().endswith(WITHOUT_PLACE) for path in case.files)
    edges = voxel_edges(np.asarray(votes.affine, dtype=np.float64))[: stack.ndim - 1].tolist() if placed else None
    return [
        {"case": case.name, "patient": case.patient, "region": region, "rater": rater, "other": other} | rest
        for region, rater, other, rest in _rows(case, stack, edges)
    ]


def _rows(case: AgreementCase, stack: torch.Tensor, edges: Sequence[float] | None) -> Iterator[tuple[str, str, str, dict[str, Any]]]:
    """Return the rows. `edges` are those of a voxel in mm, None if unknown."""

    def number(score: str, value: float, note: str = "") -> dict[str, Any]:
        return {"score": score, "value": value, "note": note}

    yield "", "", "", number("raters", len(case.files))
    size, unit = unit_of_size(stack.shape[1:], edges)
    estimates = estimate_staple(stack, [list(group) for group in case.regions.values()])[1]
    rule = LabelRule(votes=True, regions=tuple(case.regions.values()))
    kappa = rater_agreement(stack[None], len(case.regions), AgreementKind.FLEISS_KAPPA, rule)[0]
    anything = torch.zeros(len(stack), dtype=torch.bool)
    for channel, (region, group) in enumerate(case.regions.items()):
        marks = [region_members(rater, group) for rater in stack]
        anything |= torch.tensor([bool(mark.any()) for mark in marks])
        yield region, "", "", number("fleiss_kappa", float(kappa[channel]))
        for index, (rater, mark) in enumerate(zip(case.raters, marks, strict=True)):
            yield region, rater, "", number(size, int(mark.sum()) * unit)
            assert estimates.sensitivity is not None
            assert estimates.specificity is not None
            yield region, rater, "", number("staple_sensitivity", float(estimates.sensitivity[index, channel]))
            yield region, rater, "", number("staple_specificity", float(estimates.specificity[index, channel]))
        for (first, one), (second, two) in combinations(zip(case.raters, marks, strict=True), 2):
            for score, value in _pair_scores(one, two, edges, case.boundary):
                yield region, first, second, number(score, value)
    yield from ((("", rater, other, number(score, 1, note))) for rater, other, score, note in _suspicions(case, stack, anything))


def unit_of_size(shape: Sequence[int], edges: Sequence[float] | None) -> tuple[str, float]:
    """Return the name of a size, and that of one voxel: ml in 3D, cm2 in 2D, where an axis may have length 1.

    Args:
        shape: voxels along each axis.
        edges: of a voxel, mm; None: unknown, and a voxel is the unit.
    """
    if edges is None:
        return "volume_voxels", 1.0
    if len([length for length in shape if length > 1]) > 2:
        return "volume_ml", float(np.prod(edges)) / 1000
    return "area_cm2", float(np.prod([edge for edge, length in zip(edges, shape, strict=True) if length > 1])) / 100


def _pair_scores(one: torch.Tensor, two: torch.Tensor, edges: Sequence[float] | None, boundary: bool) -> Iterator[tuple[str, float]]:
    nan = float("nan")
    yield "dice", set_overlap(one.flatten(), two.flatten(), SetOverlap.DICE, nan)
    yield "jaccard", set_overlap(one.flatten(), two.flatten(), SetOverlap.IOU, nan)
    if not boundary:
        return
    surface, hausdorff = DISTANCES[:2] if edges is not None else DISTANCES[2:]
    edges = edges or [1.0] * one.ndim
    if not (one.any() and two.any()):
        yield surface, nan
        yield hausdorff, nan
        return
    # imported late: scipy's transforms take a second to import
    from monai.metrics.utils import get_edge_surface_distance

    # distances within the box around both drawings are those of the whole image
    box = [(int(places.min()), int(places.max())) for places in (one | two).nonzero().unbind(1)]
    part = tuple(slice(max(low - 1, 0), high + 2) for low, high in box)
    # MONAI wants two or three axes; one of length 1 has no neighbours
    first, second = (mark[part].squeeze() if mark.ndim == 3 and 1 in mark.shape else mark[part] for mark in (one, two))
    spacing = [edge for edge, size in zip(edges, one.shape, strict=True) if first.ndim == one.ndim or size > 1]
    # one search for two scores: `compute_average_surface_distance` and `compute_hausdorff_distance` would search each for itself
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*always_return_as_numpy")  # MONAI 1.6 passes itself what it has deprecated
        _, distances, _ = get_edge_surface_distance(first, second, spacing=spacing, symmetric=True)
    yield surface, float(torch.cat(distances).mean())
    yield hausdorff, max(float(torch.quantile(there, 0.95)) for there in distances)


def _suspicions(case: AgreementCase, stack: torch.Tensor, anything: torch.Tensor) -> Iterator[tuple[str, str, str, str]]:
    for rater, marked in zip(case.raters, anything.tolist(), strict=True):
        if not marked:
            yield rater, "", "marked_nothing", "marked nothing in any region"
    for (first, one), (second, two) in combinations(zip(case.raters, stack, strict=True), 2):
        if bool(one.any()) and torch.equal(one, two):
            yield first, second, "identical", "the same voxels: a copy?"
    marks = []
    for rater, drawing in zip(case.raters, stack, strict=True):
        kept = MarkedVoxels(tuple(size for size in drawing.shape if size > 1))
        kept.add(np.asarray(drawing).astype(np.int32).ravel(order="F"), 0)
        marks.append((rater, kept))
    for problem in turned_raters(marks, case.name):
        yield problem.where, "", "mirrored", f"got {problem.got}; {problem.fix}"
