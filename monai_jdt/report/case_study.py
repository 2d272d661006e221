"""What a report needs of a case beyond its scores: calibration, each two of raters and models compared, volumes, and slices."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
import torch
from monai.data.utils import to_affine_nd

from monai_jdt.data.file_names import names_by_difference
from monai_jdt.data.files.foreground import Foreground
from monai_jdt.data.files.grids import VoxelGrid, voxel_edges
from monai_jdt.data.problems import DataProblemError
from monai_jdt.functional.metric_labels import LabelRule
from monai_jdt.functional.rater_calibration_error import rater_calibration_bins
from monai_jdt.functional.region_members import region_members
from monai_jdt.report.agreement_rows import unit_of_size
from monai_jdt.report.case_files import load_image
from monai_jdt.report.case_slices import MOST_BYTES, ViewedCase, packed_slices
from monai_jdt.report.evaluation_rows import decided_mask, read_votes_on_grid
from monai_jdt.report.planes import slice_plane, through_plane_axis
from monai_jdt.report.prediction_files import PredictionKind, read_region_prediction


@dataclass(frozen=True)
class StudiedPrediction:
    """One model's file of a case.

    Args:
        model: its name on the page.
        path: the file.
        kind: what the numbers are, a value of :class:`monai_jdt.report.prediction_files.PredictionKind`.
        decision: how masks are made of probabilities.
        empty_below: as in :class:`monai_jdt.report.evaluation_rows.EvaluationCase`.
        exclusive: as there.
    """

    model: str
    path: str
    kind: str
    decision: str
    empty_below: float = 0.0
    exclusive: bool = False


@dataclass(frozen=True)
class StudiedCase:
    """A case and the predictions of all models.

    Args:
        name: the case's.
        files: each rater's label map.
        image: its files; empty: none.
        regions: name to label values.
        predictions: those that are there.
        channel_dim: the axis of the channels in the images' files.
        most_bytes: the limit of the packed slices; 0: none are packed.
        foreground: of the raters' files.
    """

    name: str
    files: tuple[str, ...]
    image: tuple[str, ...]
    regions: Mapping[str, tuple[int, ...]]
    predictions: tuple[StudiedPrediction, ...]
    channel_dim: str | int | None = None
    most_bytes: int = MOST_BYTES
    foreground: Foreground | None = None


@dataclass(frozen=True, eq=False)
class CaseStudy:
    """What was found. Raters are numbers from 0, models are names.

    Args:
        bins: model to `(C, bins, 3)` of :func:`monai_jdt.functional.rater_calibration_error.rater_calibration_bins`; not of label maps.
        pairs: region to the Dice of each two of raters and models; NaN if both marked nothing.
        sizes: region to the size of what each rater and each model's mask marks.
        unit: of the sizes, one of :data:`monai_jdt.report.agreement_rows.SIZES`.
        slices: for the viewer; None if they were not wanted.
        problems: what could not be read, while the rest could.
    """

    bins: Mapping[str, np.ndarray]
    pairs: Mapping[str, Mapping[tuple[int | str, int | str], float]]
    sizes: Mapping[str, Mapping[int | str, float]]
    unit: str
    slices: Mapping[str, Any] | None
    problems: tuple[str, ...] = field(default=())


def study_case(case: StudiedCase) -> CaseStudy:
    """Read a case and all its predictions once.

    Args:
        case: its files.

    Raises:
        DataProblemError: raters that cannot be read. A prediction or image that cannot is a problem of the result.
    """
    votes, grid = read_votes_on_grid(case.files, case.foreground)
    rule = LabelRule(votes=True, regions=tuple(case.regions.values()))
    probs: dict[str, np.ndarray] = {}
    masks: dict[str, np.ndarray] = {}
    bins: dict[str, np.ndarray] = {}
    problems = []
    for prediction in case.predictions:
        try:
            values, is_map = read_region_prediction(prediction.path, grid, case.regions, PredictionKind(prediction.kind))
        except (DataProblemError, OSError) as error:
            problems.append(str(error))
            continue
        prob = torch.from_numpy(values)[None]
        probs[prediction.model] = values
        mask = decided_mask(prob, prediction.decision, prediction.empty_below, prediction.exclusive)
        masks[prediction.model] = mask[0].numpy()
        if not is_map:
            bins[prediction.model] = rater_calibration_bins(prob, votes[None], rule=rule)[0].numpy()
    unit, voxel = unit_of_size(grid.shape, None if grid.affine is None else voxel_edges(grid.affine)[: len(grid.shape)].tolist())
    pairs, sizes, marks = {}, {}, {}
    for channel, (region, group) in enumerate(case.regions.items()):
        drawn: dict[int | str, np.ndarray] = {number: region_members(rater, group).numpy() for number, rater in enumerate(votes)}
        drawn |= {model: mask[channel] for model, mask in masks.items()}
        counts, pairs[region] = _overlaps(drawn)
        sizes[region] = {who: count * voxel for who, count in counts.items()}
        marks[region] = list(drawn.values())
    slices = None
    if case.most_bytes:
        slices = _slices_of(case, grid, marks, probs, problems)
    return CaseStudy(bins, pairs, sizes, unit, slices, tuple(problems))


def _overlaps(drawn: Mapping[int | str, np.ndarray]) -> tuple[dict[int | str, int], dict[tuple[int | str, int | str], float]]:
    """Return the voxels of each, and the Dice of each two."""
    flat = np.stack([mask.reshape(-1) for mask in drawn.values()])
    # outside of the union nobody marks anything
    inside = flat[:, flat.any(axis=0)].astype(np.float64)
    common = inside @ inside.T
    names = list(drawn)
    dice = {
        (names[a], names[b]): 2 * common[a, b] / total if (total := common[a, a] + common[b, b]) else math.nan
        for a, b in combinations(range(len(names)), 2)
    }
    return {name: int(common[n, n]) for n, name in enumerate(names)}, dice


def _slices_of(
    case: StudiedCase, grid: VoxelGrid, marks: Mapping[str, list[np.ndarray]], probs: Mapping[str, np.ndarray], problems: list[str]
) -> dict[str, Any]:
    shape = (*grid.shape, 1, 1)[:3]
    affine = None if grid.affine is None else to_affine_nd(3, grid.affine)
    image = None
    if case.image:
        try:
            image = load_image(case.image, grid, case.channel_dim).reshape(-1, *shape)
        except (DataProblemError, OSError) as error:
            problems.append(str(error))
    plane = slice_plane(affine, through_plane_axis(affine, shape))
    viewed = ViewedCase(
        image,
        {region: [mask.reshape(shape) for mask in masks] for region, masks in marks.items()},
        {
            region: {model: values[channel].reshape(shape) for model, values in probs.items()}
            for channel, region in enumerate(case.regions)
        },
        plane,
    )
    channels = 0 if image is None else len(image)
    files = case.image if len(case.image) == channels else [""] * channels
    return packed_slices(viewed, case.most_bytes) | {"models": list(probs), "channels": names_by_difference(files, "channel")}
