"""The verb `figure`: draw one case from its files, or from a data list."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from monai_jdt.cli.region_text import regions_from_text
from monai_jdt.data.datalist_file import read_datalist
from monai_jdt.data.files.foreground import checked_foreground
from monai_jdt.data.files.label_values import distinct_values
from monai_jdt.data.layouts.regions import regions_without_label
from monai_jdt.data.names import one_line, safe_relative_name, user_path
from monai_jdt.validation import error_sentence

if TYPE_CHECKING:
    from monai_jdt.report.case_files import CaseFiles


def figure_command(
    dest: Annotated[str | None, typer.Argument(help="The PNG to write. Default: CASE_figure.png in this folder.")] = None,
    image: Annotated[list[str] | None, typer.Option(help="The image: one file, or one per channel.")] = None,
    rater: Annotated[list[str] | None, typer.Option(help="A rater's label map; repeat it for each rater.")] = None,
    datalist: Annotated[str | None, typer.Option(help="A datalist JSON that has image and raters, in place of the files.")] = None,
    case: Annotated[str, typer.Option(help="With --datalist: which case (default: the first). Else: the title.")] = "",
    task: Annotated[str | None, typer.Option(help="With --datalist: the task, where a case has several.")] = None,
    dataset: Annotated[str | None, typer.Option(help="With --datalist: the data set, where the list has several.")] = None,
    prediction: Annotated[str | None, typer.Option(help="Probabilities, one channel per region (last axis of the NIfTI file).")] = None,
    truth: Annotated[str | None, typer.Option(help="True probabilities, in the layout of the prediction.")] = None,
    regions: Annotated[
        str | None, typer.Option(help="A convention, or JSON: '{\"cord\": [1]}', [[1, 4], [4]]. Default: each label value.")
    ] = None,
    foreground: Annotated[str | None, typer.Option(help="Masks of two values: that of the mark, 255 or 0, or a colour.")] = None,
    channel: Annotated[int | None, typer.Option(help="The image channel to show. Default: 0; colours of a photograph.")] = None,
    axis: Annotated[int | None, typer.Option(help="The axis that is cut: 0, 1 or 2. Default: by voxel size.", min=0, max=2)] = None,
    zoom: Annotated[bool, typer.Option(help="Crop to the surroundings of the labels.")] = True,
    window: Annotated[str | None, typer.Option(help="Grey range: lung, 'soft tissue', bone, brain, or LOW,HIGH.")] = None,
) -> None:
    """Draw a case: its image with each rater's contour, the raters' average and, if there is one, the prediction.

    python -m monai_jdt figure --datalist list.json --case NAME

    python -m monai_jdt figure out.png --image ct.nii.gz --rater a.nii.gz --rater b.nii.gz
    """
    # MONAI's transforms take seconds to import; `--help` should not
    from monai_jdt.raters import named_regions
    from monai_jdt.report.case_files import default_regions, load_case
    from monai_jdt.report.figure import draw_case
    from monai_jdt.report.planes import through_plane_axis

    chosen = None if regions is None else named_regions(regions_from_text(regions))
    limits = None if window is None else _grey_window(window)
    if datalist is not None:
        if image or rater:
            raise ValueError(error_sentence("--datalist", "a list, or --image and --rater", "both", "leave one of them out"))
        files, title, names = _listed_case(user_path(datalist), case, task, dataset, prediction, truth)
    else:
        files, title, names = _given_case(image, rater, case, prediction, truth)
    if foreground is not None:
        files = replace(files, foreground=checked_foreground(foreground, "--foreground"))
    out = _destination(dest, title, files)

    arrays = load_case(files)
    groups: Any = chosen
    if groups is None:
        groups, told = default_regions(arrays["votes"], arrays.get("prediction"))
        typer.echo(told, err=True)
    elif (problem := regions_without_label(groups, distinct_values(arrays["votes"]).tolist(), where="--regions")) is not None:
        typer.echo(problem, err=True)
    space = (*arrays["image"].shape[1:], 1)[:3]
    draw_case(
        out,
        **arrays,
        regions=groups,
        case=title,
        rater_names=names,
        channel=channel,
        axis=through_plane_axis(arrays["affine"], space) if axis is None else axis,
        zoom=zoom,
        window=limits,
    )
    typer.echo(out)


def _given_case(
    image: Sequence[str] | None, rater: Sequence[str] | None, case: str, prediction: str | None, truth: str | None
) -> tuple[CaseFiles, str, list[str]]:
    from monai_jdt.data.file_names import case_name, rater_names_of
    from monai_jdt.report.case_files import CaseFiles

    for option, paths in (("--image", image), ("--rater", rater)):
        if not paths:
            fix = "add them, or name a list by --datalist"
            raise ValueError(error_sentence(option, "the files of --image and --rater", "none", fix))
    images, raters = tuple(map(user_path, image or ())), tuple(map(user_path, rater or ()))
    files = CaseFiles(images, raters, _optional(prediction), _optional(truth))
    return files, case or case_name(images[0], raters), rater_names_of(raters)


def _listed_case(
    datalist: str, case: str, task: str | None, dataset: str | None, prediction: str | None, truth: str | None
) -> tuple[CaseFiles, str, list[str]]:
    from monai_jdt.data.file_names import rater_names_of
    from monai_jdt.report.case_files import CaseFiles

    items = read_datalist(datalist, "all", rater_names=True)
    item = _choose(datalist, items, {"case": case or None, "task": task, "dataset": dataset})
    name = _name_of(item)
    if not case and len(items) > 1:
        typer.echo(f"{datalist}: {one_line(name)}, the first of {len(items)} items; choose another by --case", err=True)
    images, raters = _paths(item.get("image")), _paths(item.get("raters"))
    for what, paths in (("an image", images), ("at least one rater", raters)):
        if not paths:
            fix = "choose another case, or add its files to the list"
            raise ValueError(error_sentence(f"{datalist}: {one_line(name)}", what, "none", fix))
    files = CaseFiles(tuple(images), tuple(raters), _optional(prediction), _optional(truth or item.get("probability")))
    files = replace(files, foreground=checked_foreground(item.get("foreground"), f"{datalist}: {one_line(name)}: foreground"))
    words = [str(item[key]) for key in ("dataset", "task") if item.get(key) not in (None, "", "segmentation")]
    return files, " ".join([name, *words]), list(item.get("rater_names") or rater_names_of(raters))


def _choose(datalist: str, items: Sequence[Mapping[str, Any]], wanted: Mapping[str, str | None]) -> Mapping[str, Any]:
    """Return the item of a case, or the first one if no case is named."""
    left = list(items)
    for key, value in wanted.items():
        if value is None:
            continue
        held = [str(_name_of(item) if key == "case" else item.get(key)) for item in left]
        left = [item for item, name in zip(left, held, strict=True) if name == value]
        if not left:
            close = difflib.get_close_matches(value, held, n=1, cutoff=0.4)
            names = list(dict.fromkeys(held))
            got = f"{value!r}, which is none of " + ", ".join(map(one_line, names[:5])) + (", ..." if len(names) > 5 else "")
            fix = f"did you mean {one_line(close[0])}?" if close else "name one of them"
            raise ValueError(error_sentence(f"--{key}", f"a {key} of {datalist}", got, fix))
    if not left:
        raise ValueError(error_sentence(datalist, "at least one case", "an empty list"))
    if wanted["case"] is not None and len(left) > 1:
        for key in ("dataset", "task"):
            values = list(dict.fromkeys(str(item.get(key)) for item in left))
            if len(values) > 1:
                got = f"{len(left)} items of {wanted['case']} ({', '.join(values[:6])})"
                raise ValueError(error_sentence("--case", "one item", got, f"add --{key} {values[0]}"))
    return left[0]


def _name_of(item: Mapping[str, Any]) -> str:
    from monai_jdt.data.file_names import case_name

    if item.get("case") is not None:
        return str(item["case"])
    images = _paths(item.get("image"))
    return case_name(images[0], _paths(item.get("raters"))) if images else "case"


def _paths(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value or ())


def _optional(path: str | None) -> str | None:
    return None if path is None else user_path(path)


def _destination(dest: str | None, title: str, files: CaseFiles) -> str:
    out = safe_relative_name(title).replace(os.sep, "_") + "_figure.png" if dest is None else user_path(dest)
    if not out.lower().endswith(".png"):
        fix = f"name it {os.path.basename(out).split('.')[0] or 'case'}.png"
        raise ValueError(error_sentence("DEST", "the name of a PNG to write", out, fix))
    for path in (*files.image, *files.raters, files.prediction, files.truth):
        if path is not None and os.path.exists(out) and os.path.exists(path) and os.path.samefile(out, path):
            raise ValueError(error_sentence("DEST", "the name of a PNG to write", f"{out}, a file of the case", "choose another name"))
    return out


def _grey_window(text: str) -> str | tuple[float, float]:
    from monai_jdt.report.intensities import CT_WINDOWS

    named = text.strip().lower()
    if named in CT_WINDOWS or named == "soft":
        return "soft tissue" if named == "soft" else named
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        low = high = 0.0
    if not low < high:
        expected = f"one of {', '.join(CT_WINDOWS)}, or LOW,HIGH"
        raise ValueError(error_sentence("--window", expected, repr(text), "write it as --window=-160,240"))
    return low, high
