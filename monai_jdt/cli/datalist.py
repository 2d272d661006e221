"""The verb `datalist`: print the cases of a folder, or write them as a datalist JSON."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from monai_jdt.data.datalist_file import write_datalist
from monai_jdt.data.files.foreground import checked_foreground
from monai_jdt.data.layouts.brats import LAYOUT_CONVENTIONS, brats_datalist
from monai_jdt.data.layouts.curvas import curvas_datalist
from monai_jdt.data.layouts.kits21 import kits21_datalist, merge_kits21
from monai_jdt.data.layouts.listing import CaseList
from monai_jdt.data.layouts.msseg import msseg_datalist
from monai_jdt.data.layouts.patterns import pattern_datalist
from monai_jdt.data.layouts.qubiq import qubiq_datalist
from monai_jdt.data.names import one_line, user_path
from monai_jdt.data.splits import folds, split_cases
from monai_jdt.validation import error_sentence

#: The values of the argument LAYOUT.
LAYOUTS: tuple[str, ...] = ("brats", *LAYOUT_CONVENTIONS, "qubiq", "kits21", "curvas", "msseg", "pattern")

# The layouts that take an option.
_OPTIONS: Mapping[str, tuple[str, ...]] = {
    "dataset": ("qubiq",),
    "task": ("qubiq", "pattern"),
    "subset": ("qubiq",),
    "no-labelled": ("qubiq",),
    "merge": ("kits21",),
    "image": ("pattern",),
    "raters": ("pattern",),
}


def datalist_command(
    layout: Annotated[str, typer.Argument(help=f"One of {', '.join(LAYOUTS)}.")],
    root: Annotated[str, typer.Argument(help="The folder of the cases, which may lie at any depth.")],
    write: Annotated[
        str | None, typer.Option(help="The list to write, .json, .csv or .tsv, with paths relative to its folder.")
    ] = None,
    absolute: Annotated[bool, typer.Option(help="Write absolute paths.")] = False,
    dataset: Annotated[str | None, typer.Option(help="qubiq: one data set, e.g. kidney.")] = None,
    task: Annotated[str | None, typer.Option(help="qubiq: one task, by number. pattern: a name for the items.")] = None,
    subset: Annotated[str | None, typer.Option(help="qubiq: training, validation or testing.")] = None,
    labelled: Annotated[bool, typer.Option(help="qubiq: whether cases must have raters.")] = True,
    merge: Annotated[str | None, typer.Option(help="kits21: write each rater's instances as one map into this folder.")] = None,
    image: Annotated[list[str] | None, typer.Option(help="pattern: the image's path, '{case}/im.nii.gz'; one per channel.")] = None,
    raters: Annotated[
        list[str] | None,
        typer.Option(help="pattern: the raters' paths, '{case}/seg_{rater}.nii.gz', or {slot} if it is no person; repeatable."),
    ] = None,
    foreground: Annotated[
        str | None, typer.Option(help="Masks of two values: that of the mark, 255 or 0, or a colour. It is written into the list.")
    ] = None,
    validation: Annotated[float | None, typer.Option(help="Split off this share of patients as 'validation'.")] = None,
    cut: Annotated[int | None, typer.Option("--folds", help="Give each item its fold (0, 1, ...), by patient.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the split or the folds. Folds without it are blocks of the list.")] = None,
) -> None:
    """List the cases of a folder with their number of raters, and the files that were skipped, with the reason."""
    given = {"dataset": dataset, "task": task, "subset": subset, "merge": merge, "image": image, "raters": raters}
    _refuse_others(layout, {**given, "no-labelled": None if labelled else True})
    _check_ranges(validation, cut, seed)
    if layout == "pattern":
        if not image or not raters:
            absent = " and ".join(name for name, value in (("--image", image), ("--raters", raters)) if not value)
            fix = "--image '{case}/image.nii.gz' --raters '{case}/seg_{rater}.nii.gz'"
            raise ValueError(error_sentence("LAYOUT pattern", "--image and --raters", f"no {absent}", fix))
        items = pattern_datalist(root, image[0] if len(image) == 1 else image, raters, task=task)
    elif layout == "qubiq":
        items = qubiq_datalist(root, dataset, task, subset=subset, labelled=labelled)
    elif layout == "kits21":
        items = kits21_datalist(root)
        if merge is not None:
            items = merge_kits21(items, merge)
    elif layout == "curvas":
        items = curvas_datalist(root)
    elif layout == "msseg":
        items = msseg_datalist(root)
    elif layout in LAYOUTS:
        items = brats_datalist(root, "auto" if layout == "brats" else layout)
    else:
        close = difflib.get_close_matches(layout.lower(), LAYOUTS, n=1)
        fix = f"name {close[0]}" if close else "use the layout pattern with --image and --raters"
        raise ValueError(error_sentence("LAYOUT", f"one of {', '.join(LAYOUTS)}", repr(layout), fix))
    mark = checked_foreground(foreground, "--foreground")
    if mark is not None:
        for item in items:
            item["foreground"] = mark
    typer.echo(items.found)
    sections = _sections(items, validation, cut, seed)
    if write is None:
        for item in items:
            names = [str(item[key]) for key in ("dataset", "case", "task") if item.get(key) is not None]
            people = ", ".join(item.get("rater_names") or ())
            typer.echo(one_line(f"{' '.join(names)}: {len(item.get('raters') or ())} raters" + (f" ({people})" if people else "")))
    else:
        write_datalist(sections, write, relative=not absolute)
        typer.echo(f"{one_line(user_path(write))}: " + ", ".join(f"{name} {len(part)}" for name, part in sections.items()) + " items")


def _refuse_others(layout: str, given: Mapping[str, Any]) -> None:
    """Refuse options of another layout, which would be ignored."""
    for name, value in given.items():
        takes = _OPTIONS[name]
        if value is not None and layout in LAYOUTS and layout not in takes:
            fix = f"leave it out, or use the layout {takes[0]}"
            raise ValueError(error_sentence(f"--{name}", f"no such option with the layout {layout}", f"--{name}", fix))


def _check_ranges(validation: float | None, cut: int | None, seed: int | None) -> None:
    if validation is not None and cut is not None:
        raise ValueError(error_sentence("--validation and --folds", "one of them", "both", "leave one of them out"))
    if validation is not None and not 0 < validation < 1:
        raise ValueError(error_sentence("--validation", "a share above 0 and below 1", str(validation), "--validation 0.2"))
    if cut is not None and cut < 2:
        raise ValueError(error_sentence("--folds", "a whole number >= 2", str(cut), "--folds 5"))
    if seed is not None and seed < 0:
        raise ValueError(error_sentence("--seed", "a whole number >= 0", str(seed), "--seed 0"))


def _sections(items: CaseList, validation: float | None, cut: int | None, seed: int | None) -> dict[str, list[dict[str, Any]]]:
    if validation is not None:
        train, held = split_cases(items, validation, 0 if seed is None else seed)
        return {"training": train, "validation": held}
    if cut is not None:
        # MONAI's apps read one section whose items hold their fold
        for fold, (_, held) in enumerate(folds([{**item, "index": i} for i, item in enumerate(items)], cut, seed)):
            for item in held:
                items[item["index"]]["fold"] = fold
    return {"training": list(items)}
