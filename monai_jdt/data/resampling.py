"""Raters' maps on another grid than the image's: resampled onto the image's, in one step before anything else."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from monai_jdt.data.case_runner import CaseOutcome, refuse_other_settings, write_case_rows
from monai_jdt.data.datalist_file import write_datalist
from monai_jdt.data.files.atomic import whole_file
from monai_jdt.data.files.file_volume import FileVolume, one_problem
from monai_jdt.data.files.folder_lock import sole_run_in
from monai_jdt.data.files.foreground import Foreground, checked_foreground
from monai_jdt.data.files.grids import VoxelGrid, grid_problem, voxel_edges, without_last_ones
from monai_jdt.data.files.label_values import LARGEST_LABEL, distinct_values, whole_labels
from monai_jdt.data.files.volumes import PICTURES, label_volume, open_volume
from monai_jdt.data.layouts.listing import PATH_KEYS
from monai_jdt.data.names import folded_name, safe_relative_name
from monai_jdt.data.rater_names import names_in_item
from monai_jdt.validation import error_sentence

#: The file of a run with a row for each rater.
TABLE = "resampling.csv"
_LIST = "datalist.json"


@dataclass(frozen=True)
class CaseToResample:
    """One case of a list.

    Args:
        name: differs from the names of all other cases.
        image: its first file, whose grid is wanted.
        channels: how many channels stand on the last axis of a 2D image's file; 0: none.
        raters: each rater's file.
        written: where each rater's map goes, without an ending.
        folder: of the run.
        soft: whether the maps are probabilities.
        same_view: whether files without a place in space show the same field of view.
        foreground: of the maps; see :class:`monai_jdt.transforms.LoadRaters`.
    """

    name: str
    image: str
    channels: int
    raters: tuple[str, ...]
    written: tuple[str, ...]
    folder: str
    soft: bool
    same_view: bool
    foreground: Foreground | None


@dataclass(frozen=True)
class ResampledRaters:
    """What :func:`resample_raters` did.

    Args:
        rows: one for each rater.
        failures: case to what went wrong, a line.
        datalist: the new list; None if a case failed.
    """

    rows: tuple[dict[str, Any], ...]
    failures: Mapping[str, str]
    datalist: str | None


def resample_raters(
    items: Sequence[Mapping[str, Any]] | Mapping[str, Sequence[Mapping[str, Any]]],
    dest: str | os.PathLike[str],
    *,
    soft: bool = False,
    same_view: bool = False,
    source: str | os.PathLike[str] | None = None,
    workers: int = 1,
    scheduler: str | None = None,
    progress: bool = True,
) -> ResampledRaters:
    """Write the raters' maps that lie on another grid than their image on the image's, and a list of all cases.

    Label maps are resampled by the nearest voxel, so that no new value appears, probabilities linearly. Maps that lie on the image's
    grid stay where they are. An interrupted run goes on by the same call.

    Args:
        items: of a data list, or sections of them.
        dest: the folder. It gets `<case>/<rater>.nii.gz` (PNG for pictures), `resampling.csv`, and `datalist.json` once every case is
            there.
        soft: whether the maps are probabilities in [0, 1].
        same_view: whether pictures and arrays, which have no place in space, show the image's field of view, so that they may be scaled
            to its size. False: such a file of another size is refused.
        source: the list's file, by which an interrupted run is known. None: by the names and images of its cases.
        workers: processes.
        scheduler: the address of a Dask scheduler.
        progress: whether to show a progress bar.

    Returns:
        A row for each rater: case, rater (its number), file (empty: unchanged), shape and new shape, and `lost`, the share of the mark
        that is not found again when the result is resampled back. NaN: nothing was marked.

    Raises:
        FileExistsError: maps, a list or a table are there that no interrupted run left, or a file of the items would be replaced.
        ValueError: an interrupted run with other settings, cases whose folders would have one name, raters whose number is not that of
            their names, or `soft` together with a foreground.
        BlockingIOError: another run writes there.
    """
    folder = os.fspath(dest)
    sections = items if isinstance(items, Mapping) else {"training": items}
    listed = [item for section in sections.values() for item in section]
    cases = [_case_of(item, name, folder, soft, same_view) for item, name in zip(listed, _names_of_cases(listed), strict=True)]
    work = [case for case in cases if case.raters]
    own = [(case.name, case.image) for case in cases]
    name = hashlib.sha256(repr(own).encode()).hexdigest()[:12] if source is None else os.path.abspath(source)
    settings = f"{'linear' if soft else 'nearest'}{'; same view' if same_view else ''}; list {name}"
    table, datalist = os.path.join(folder, TABLE), os.path.join(folder, _LIST)
    with sole_run_in(folder):
        refuse_other_settings(table, settings)
        _refuse_names(work)
        read = [item.get(key) for item in listed for key in PATH_KEYS]
        _refuse_what_is_there(work, [*read, source], folder, going_on=os.path.exists(f"{table}.unfinished"))
        outcomes = write_case_rows(
            resampled_case_rows,
            work,
            [case.name for case in work],
            [(case.image, *case.raters) for case in work],
            table,
            what="resample",
            written=lambda row: os.path.join(folder, row["file"]) if row["file"] else "",
            finish=partial(_write_list, sections, cases, datalist),
            settings=settings,
            workers=workers,
            scheduler=scheduler,
            progress=progress,
        )
        failures = {outcome.name: outcome.failure for outcome in outcomes if outcome.failure is not None}
        rows = tuple(row for outcome in outcomes for row in outcome.result or ())
    return ResampledRaters(rows, failures, None if failures else datalist)


def resampled_case_rows(case: CaseToResample) -> list[dict[str, Any]]:
    """Resample the raters of one case.

    Args:
        case: its files.

    Returns:
        The rows of :func:`resample_raters`.

    Raises:
        DataProblemError: a file that cannot be read, a grid that does not overlap with the image's, or files without a place in space
            whose sizes differ, unless they show the same view.
    """
    grid = _image_grid(open_volume(case.image), case.channels)
    rows = []
    for number, (path, written) in enumerate(zip(case.raters, case.written, strict=True), start=1):
        volume = open_volume(path)
        volume = volume if case.soft else label_volume(volume, None, case.foreground)
        own = VoxelGrid(path, without_last_ones(volume.shape), volume.affine)
        row: dict[str, Any] = {
            "case": case.name,
            "rater": number,
            "file": "",
            "shape": _shape_text(own.shape),
            "new_shape": _shape_text(grid.shape),
        }
        # a mask whose mark is not 1 is written as 0 and 1, so that all raters of a case are of one kind
        if grid_problem(own, grid) is None and case.foreground is None:
            rows.append(row | {"lost": 0.0})
            continue
        values = _values_of(volume, own, case.soft)
        start, wanted = _placed(own, grid, case.same_view)
        new = resampled_values(values, start, wanted, linear=case.soft)
        row["file"] = written + _ending_beside(case.image, case.soft)
        _write_map(os.path.join(case.folder, row["file"]), new, grid)
        rows.append(row | {"lost": _lost_share(values, resampled_values(new, wanted, start, linear=case.soft))})
    return rows


def resampled_values(values: np.ndarray, own: VoxelGrid, grid: VoxelGrid, linear: bool = False) -> np.ndarray:
    """Resample an array onto another grid, by SimpleITK. Outside of its own grid the result is 0.

    Args:
        values: of the shape of `own`.
        own: where its voxels lie; it must have an affine.
        grid: where those of the result lie; likewise.
        linear: whether to interpolate linearly; False: the nearest voxel.

    Returns:
        An array of the shape of `grid`, of the same dtype.

    Example:
        >>> halved = np.diag([0.5, 1, 1, 1])
        >>> halved[0, 3] = -0.25  # two voxels in the place of each
        >>> fine = VoxelGrid("fine", (4, 1), halved)
        >>> resampled_values(np.array([[1], [2]], np.uint8), VoxelGrid("own", (2, 1), np.eye(4)), fine).ravel().tolist()
        [1, 1, 2, 2]
    """
    import SimpleITK

    if own.affine is None or grid.affine is None:
        raise ValueError(error_sentence("grid", "grids with an affine", "one without"))
    image = SimpleITK.GetImageFromArray(values.reshape((*own.shape, 1, 1)[:3]).transpose(2, 1, 0))
    _set_place(image, own.affine)
    reference = SimpleITK.Image([int(n) for n in (*grid.shape, 1, 1)[:3]], SimpleITK.sitkUInt8)
    _set_place(reference, grid.affine)
    mode = SimpleITK.sitkLinear if linear else SimpleITK.sitkNearestNeighbor
    new = SimpleITK.Resample(image, reference, SimpleITK.Transform(), mode, 0.0, image.GetPixelID())
    return np.asarray(SimpleITK.GetArrayFromImage(new).transpose(2, 1, 0).reshape(grid.shape))


def _set_place(image: Any, affine: np.ndarray) -> None:
    """Give an image of ITK the place of an affine of NIfTI's, whose x and y run the other way."""
    turned = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    edges = voxel_edges(affine)
    image.SetSpacing(edges.tolist())
    image.SetDirection((turned[:3, :3] / edges).ravel().tolist())
    image.SetOrigin(turned[:3, 3].tolist())


def _image_grid(volume: FileVolume, channels: int) -> VoxelGrid:
    shape = volume.shape[:-1] if volume.components else volume.shape[:3]
    if channels and len(shape) == 3 and shape[2] >= channels:
        shape = shape[:2]
    return VoxelGrid(volume.path, without_last_ones(shape), volume.affine)


def _placed(own: VoxelGrid, grid: VoxelGrid, same_view: bool) -> tuple[VoxelGrid, VoxelGrid]:
    """Return both grids with affines, and refuse those that have no common place."""
    if own.affine is None or grid.affine is None:
        if own.shape != grid.shape and not same_view:
            got = f"{own.shape}, and no place in space"
            fix = "same_view=True (--same-view) if both show the same field of view; else crop or pad the file"
            raise one_problem(own.path, f"shape {grid.shape}, as {grid.path}", got, fix)
        if len(own.shape) != len(grid.shape):
            raise one_problem(own.path, f"{len(grid.shape)} axes, as {grid.path}", f"shape {own.shape}", "export the file again")
        scale = np.array([*(new / old for new, old in zip(grid.shape, own.shape, strict=True)), 1, 1][:3])
        affine = np.diag([*scale, 1.0])
        # the edges of both fields of view lie on each other, not the centres of their first voxels
        affine[:3, 3] = (scale - 1) / 2
        return VoxelGrid(own.path, own.shape, affine), VoxelGrid(grid.path, grid.shape, np.eye(4))
    corners = np.array(np.meshgrid(*[(-0.5, n - 0.5) for n in (*own.shape, 1, 1)[:3]], [1.0])).reshape(4, -1)
    seen = (np.linalg.inv(grid.affine) @ own.affine @ corners)[:3]
    size = np.array((*grid.shape, 1, 1)[:3])
    if (seen.max(axis=1) <= -0.5).any() or (seen.min(axis=1) >= size - 0.5).any():
        got = f"one that lies outside, origin {own.affine[:3, 3].round(1).tolist()}"
        raise one_problem(own.path, f"a grid that overlaps with that of {grid.path}", got, "see whether it belongs to this image")
    return own, grid


def _values_of(volume: FileVolume, own: VoxelGrid, soft: bool) -> np.ndarray:
    if soft and (volume.components or len(own.shape) > 3):
        raise one_problem(own.path, "one probability per voxel", f"shape {volume.shape}", "write a file for each class")
    values = volume.read().reshape(own.shape)
    if soft:
        low, high = float(values.min()), float(values.max())
        if not (low >= 0 and high <= 1):  # NaN too
            fix = "leave `soft` out for label maps"
            raise one_problem(own.path, "probabilities in [0, 1]", f"values from {low:g} to {high:g}", fix)
        return values.astype(np.float32)
    present, wrong = whole_labels(distinct_values(values))
    if wrong is None and (np.abs(present) > LARGEST_LABEL).any():
        wrong = str(int(np.abs(present).max())), "number the labels anew"
    if wrong is not None:
        raise one_problem(own.path, "whole label values within int16", *wrong)
    small = present.size == 0 or (present.min() >= 0 and present.max() <= 255)
    whole = np.rint(values) if values.dtype.kind == "f" else values
    return whole.astype(np.uint8 if small else np.int16)


def _lost_share(values: np.ndarray, back: np.ndarray) -> float:
    if values.dtype.kind == "f":
        whole, kept = float(values.sum(dtype=np.float64)), float(np.minimum(values, back).sum(dtype=np.float64))
    else:
        marked = values != 0
        whole, kept = float(np.count_nonzero(marked)), float(np.count_nonzero(marked & (values == back)))
    return round(1 - kept / whole, 6) if whole else float("nan")


def _ending_beside(image: str, soft: bool) -> str:
    if image.lower().endswith(PICTURES):
        return ".npy" if soft else ".png"
    return ".npy" if image.lower().endswith((".npy", ".npz")) else ".nii.gz"


def _write_map(path: str, values: np.ndarray, grid: VoxelGrid) -> None:
    with whole_file(path) as draft:
        if path.endswith(".npy"):
            np.save(draft, values)
        elif path.endswith(".png"):
            from PIL import Image

            if values.dtype != np.uint8:
                raise one_problem(path, "label values from 0 to 255 in a PNG", f"up to {values.max()}", "number the labels anew")
            Image.fromarray(np.ascontiguousarray(values.T)).save(draft)
        else:
            import nibabel

            affine = np.eye(4) if grid.affine is None else grid.affine
            nibabel.save(nibabel.Nifti1Image(values, np.asarray(affine, dtype=np.float64)), draft)


def _case_of(item: Mapping[str, Any], name: str, folder: str, soft: bool, same_view: bool) -> CaseToResample:
    raters = item.get("raters") or []
    raters = [raters] if isinstance(raters, (str, os.PathLike)) else list(raters)
    for rater in raters:
        if not isinstance(rater, (str, os.PathLike)):
            fix = "merge_kits21(items, dest), or `datalist kits21 --merge`, which write one label map for each rater"
            raise one_problem(f"{name}: raters", "one file per rater", f"a {type(rater).__name__}", fix)
    image = item["image"]
    names = [f"rater{number + 1}" for number in range(len(raters))]
    if item.get("rater_names"):
        names = names_in_item(item, len(raters), "the list")
    foreground = checked_foreground(item.get("foreground"), f"{name}: foreground")
    if soft and foreground is not None:
        fix = "leave `soft` out for masks, or remove the foreground of probabilities"
        raise one_problem(f"{name}: foreground", "none beside probabilities (soft)", repr(foreground), fix)
    case = safe_relative_name(name)
    return CaseToResample(
        name,
        os.fspath(image if isinstance(image, (str, os.PathLike)) else image[0]),
        max(item["channels"]) + 1 if item.get("channels") and isinstance(image, (str, os.PathLike)) else 0,
        tuple(map(os.fspath, raters)),
        tuple(f"{case}/{safe_relative_name(rater.replace('/', '_'))}" for rater in names),
        folder,
        soft,
        same_view,
        foreground,
    )


def _names_of_cases(items: Sequence[Mapping[str, Any]]) -> list[str]:
    plain = [str(item["case"]) for item in items]
    if len(set(plain)) == len(plain):
        return plain
    return ["_".join(str(item[key]) for key in ("dataset", "case", "task") if item.get(key)) for item in items]


def _refuse_names(cases: Sequence[CaseToResample]) -> None:
    first: dict[str, str] = {}
    for case in cases:
        for written in case.written:
            other = first.get(folded_name(written))
            first[folded_name(written)] = case.name
            if other is not None:
                got = f"{written} of {other!r} and {case.name!r}"
                raise ValueError(error_sentence("names", "cases and raters whose names differ", got, "rename one in the list"))


def _refuse_what_is_there(cases: Sequence[CaseToResample], inputs: Any, folder: str, going_on: bool) -> None:
    """Refuse files that are there, unless an interrupted run left them, and in any case the list's own."""
    targets = [written + _ending_beside(case.image, case.soft) for case in cases for written in case.written]
    there = [name for name in (TABLE, _LIST, *targets) if os.path.lexists(os.path.join(folder, name))]
    read = set(map(os.path.realpath, _nested_paths(inputs)))
    there = [name for name in there if not going_on or os.path.realpath(os.path.join(folder, name)) in read]
    if there:
        got = f"{there[0]} that is there" + (f", and {len(there) - 1} more" if len(there) > 1 else "")
        expected = "a folder without a finished run, or files of these names"
        raise FileExistsError(error_sentence(folder, expected, got, "name another folder, or remove them"))


def _nested_paths(paths: Any) -> Iterator[str]:
    if isinstance(paths, (list, tuple)):
        for path in paths:
            yield from _nested_paths(path)
    elif paths is not None:
        yield os.fspath(paths)


def _write_list(
    sections: Mapping[str, Sequence[Mapping[str, Any]]],
    cases: Sequence[CaseToResample],
    path: str,
    outcomes: Sequence[CaseOutcome[list[dict[str, Any]]]],
) -> None:
    files = {outcome.name: [row["file"] for row in outcome.result or ()] for outcome in outcomes}
    case = iter(cases)
    new = {
        name: [_new_item(item, own := next(case), files.get(own.name, [])) for item in section] for name, section in sections.items()
    }
    write_datalist(new, path)


def _new_item(item: Mapping[str, Any], case: CaseToResample, files: Sequence[str]) -> dict[str, Any]:
    new = dict(item)
    if case.raters:
        new["raters"] = [os.path.join(case.folder, file) if file else old for file, old in zip(files, case.raters, strict=True)]
        new.pop("foreground", None)
        if "label" in new:  # the one rater under another tool's name
            new["label"] = new["raters"][0]
    return new


def _shape_text(shape: Sequence[int]) -> str:
    return " ".join(map(str, shape))
