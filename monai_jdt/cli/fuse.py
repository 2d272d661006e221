"""The verb `fuse`: write one label file from several raters' files, or one for each case of a data list."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from monai_jdt.cli.fused_case import CaseToFuse, FusionChoice, fused_case_rows, is_png, write_fused_label
from monai_jdt.cli.region_text import regions_from_text
from monai_jdt.data.case_runner import CaseOutcome, refuse_other_settings, write_case_rows
from monai_jdt.data.csv_lists import TABLE_ENDINGS
from monai_jdt.data.file_names import rater_names_of
from monai_jdt.data.files.folder_lock import sole_run_in
from monai_jdt.data.files.foreground import checked_foreground
from monai_jdt.data.files.volumes import can_be_volume
from monai_jdt.data.layouts.regions import regions_without_label
from monai_jdt.data.names import folded_name, safe_relative_name, user_path
from monai_jdt.data.problems import DataProblem, DataProblemError
from monai_jdt.data.rater_names import checked_weights
from monai_jdt.validation import error_sentence

if TYPE_CHECKING:
    from monai_jdt.report.rated_cases import RatedCase


def fuse_command(
    context: typer.Context,
    dest: Annotated[
        str, typer.Argument(help="The file to write, .nii or .nii.gz, or .png; with a data list, the folder. It must be free.")
    ],
    rater: Annotated[list[str], typer.Argument(help="The raters' label maps, or one data list, a .json, .csv or .tsv file.")],
    method: Annotated[str, typer.Option(help="A method of `FuseRaters`: average, majority, dice_weighted, staple, ...")] = "average",
    regions: Annotated[str, typer.Option(help="A convention, or JSON: '{\"cord\": [1]}', [[1, 4], [4]].")] = "[[1]]",
    weights: Annotated[str | None, typer.Option(help="Per rater, '1,1,0.5', or by name, 'anna=2,ben=0'; 0 leaves a rater out.")] = None,
    paper_compatible: Annotated[bool, typer.Option(help="dice_weighted as published: a rater without overlap has weight 1.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of the method random.")] = 0,
    form: Annotated[str, typer.Option(help="soft: probabilities; hard: 0 and 1; map: one map of label values.")] = "soft",
    foreground: Annotated[str | None, typer.Option(help="Masks of two values: that of the mark, 255 or 0, or a colour.")] = None,
    section: Annotated[str | None, typer.Option(help="Of a data list: one list of the JSON, e.g. training; or all.")] = None,
    workers: Annotated[int | None, typer.Option(help="Of a data list: processes (default: 1).", min=1)] = None,
    scheduler: Annotated[str | None, typer.Option(help="Of a data list: the address of a Dask scheduler.")] = None,
    progress: Annotated[bool, typer.Option(help="Show a progress bar.")] = True,
) -> None:
    """Fuse raters into one map for each region (on the last axis if there are several), float32, on the raters' grid.

    --form hard gives 0 and 1 (above 0.5), --form map one map of label values. Where the raters are pictures, such a map is a PNG.

    With a data list, each case becomes a file CASE.nii.gz (or .png) in the folder, and fusion.csv there has a row for each. An
    interrupted run goes on by the same command; other settings are refused. Exit code 1 if a case could not be fused. A region without
    a value in any rater's file is a warning on standard error.
    """
    # MONAI's transforms take seconds to import; `--help` should not
    from monai_jdt.raters.region_names import named_regions
    from monai_jdt.report.rated_cases import rated_cases
    from monai_jdt.transforms.region_form import LABEL_FORMS, RegionForm

    dest, paths = user_path(dest), [user_path(path) for path in rater]
    if seed < 0:
        raise ValueError(error_sentence("--seed", "a whole number >= 0", str(seed), "--seed 0"))
    is_list = len(paths) == 1 and paths[0].lower().endswith((".json", *TABLE_ENDINGS))
    if not is_list:
        _refuse_name(dest, {"--section": section, "--workers": workers, "--scheduler": scheduler})
    listed = rated_cases(paths[0], section or "all") if is_list else []
    by_name: dict[str, float] = {}
    numbers: tuple[float, ...] | None = None
    if weights is not None and "=" in weights:
        by_name = _weights_by_name(weights, _people(listed) if is_list else rater_names_of(paths))
        numbers = None if is_list else tuple(by_name.values())
    elif weights is not None:
        numbers = _weights(weights, _rater_count(listed) if is_list else len(paths))
    if form not in LABEL_FORMS:
        raise ValueError(error_sentence("--form", "soft, hard or map", repr(form), "name one of these"))
    groups, mark = named_regions(regions_from_text(regions)), checked_foreground(foreground, "--foreground")
    choice = FusionChoice(groups, method.lower(), numbers, paper_compatible, seed, form, mark)
    choice.transform()
    RegionForm(form, groups)  # refuses label values before a case is read
    if is_list:
        how: dict[str, Any] = {"what": "fuse", "workers": workers or 1, "scheduler": scheduler, "progress": progress}
        context.with_resource(sole_run_in(dest))
        own = [tuple(by_name[name] for name in case.raters) if by_name else numbers for case in listed]
        marks = [case.foreground if mark is None else mark for case in listed]
        choices = [replace(choice, rater_weights=of_case, foreground=at) for of_case, at in zip(own, marks, strict=True)]
        how["settings"] = _settings_of_fusion(choice, paths[0], section, weights)
        _fuse_list(listed, dest, choices, how)
        return
    _require_files(paths)
    if dest.lower().endswith(".png") and not is_png([dest], choice):
        fix = "add --form map, or name a .nii.gz file"
        raise ValueError(error_sentence(dest, "one map of label values for a PNG", f"--form {form} of {len(groups)} regions", fix))
    _print_empty_regions(choice.regions, write_fused_label(paths, dest, choice))
    typer.echo(f"{dest}: {choice.method} of {len(paths)} raters; regions {', '.join(choice.regions)}")


def _refuse_name(dest: str, of_lists: Mapping[str, Any]) -> None:
    """Refuse a name that cannot be written to, and options of a list without one."""
    if not dest.lower().endswith((".nii", ".nii.gz", ".png")):
        fix = f"name it {os.path.basename(dest).split('.')[0] or 'fused'}.nii.gz"
        raise ValueError(error_sentence(dest, "a name that ends in .nii, .nii.gz or .png", "another ending", fix))
    if os.path.lexists(dest):
        raise FileExistsError(error_sentence(dest, "a free name", "a file that is there", "name another, or remove it"))
    for option, value in of_lists.items():
        if value is not None:
            fix = "leave it out, or name a data list, a .json file"
            raise ValueError(error_sentence(option, "no such option without a data list", repr(value), fix))


def _settings_of_fusion(choice: FusionChoice, datalist: str, section: str | None, weights: str | None) -> str:
    """Return what a run was started with, as text: labels of another one must not be replaced."""
    regions = ", ".join(f"{name} {list(values)}" for name, values in choice.regions.items())
    told = [os.path.abspath(datalist), f"section {section or 'all'}", choice.method, choice.form, f"regions {regions}"]
    told += [f"weights {weights}"] if weights is not None else []
    told += ["paper compatible"] if choice.paper_compatible else []
    told += [f"seed {choice.seed}"] if choice.method == "random" else []
    told += [f"foreground {choice.foreground}"] if choice.foreground is not None else []
    return "; ".join(told)


def _fuse_list(listed: Sequence[RatedCase], folder: str, choices: Sequence[FusionChoice], how: dict[str, Any]) -> None:
    endings = [".png" if is_png(case.files, choice) else ".nii.gz" for case, choice in zip(listed, choices, strict=True)]
    cases = [
        CaseToFuse(case.name, case.files, folder, safe_relative_name(case.name) + ending, choice)
        for case, choice, ending in zip(listed, choices, endings, strict=True)
    ]
    table = os.path.join(folder, "fusion.csv")
    refuse_other_settings(table, how["settings"])
    labels = [os.path.join(folder, case.label) for case in cases]
    _refuse_labels(cases, labels, going_on=os.path.exists(f"{table}.unfinished"))
    files = [case.files for case in cases]
    names = [case.name for case in cases]
    outcomes = write_case_rows(
        fused_case_rows, cases, names, files, table, written=lambda row: os.path.join(folder, row["label"]), **how
    )
    _print_outcomes(outcomes, choices[0], table)


def _print_outcomes(outcomes: Sequence[CaseOutcome[list[dict[str, Any]]]], choice: FusionChoice, table: str) -> None:
    rows = [row for outcome in outcomes for row in outcome.result or ()]
    if rows:
        _print_empty_regions(choice.regions, [int(value) for row in rows for value in row["label_values"].split()])
    typer.echo(f"{table}: {choice.method} of {len(rows)} cases; regions {', '.join(choice.regions)}")
    failures = [(outcome.name, outcome.failure) for outcome in outcomes if outcome.failure is not None]
    for name, failure in failures:
        typer.echo(f"{name}: {failure}", err=True)
    if failures:
        raise typer.Exit(1)


def _refuse_labels(cases: Sequence[CaseToFuse], labels: Sequence[str], going_on: bool) -> None:
    """Refuse labels that are there, unless an interrupted run left them, and cases whose labels would have one name."""
    there = [path for path in labels if os.path.lexists(path)]
    if there and not going_on:
        got = f"{len(there)} that {'is' if len(there) == 1 else 'are'} there, such as {there[0]}"
        fix = "name another folder, or remove them"
        raise FileExistsError(error_sentence(cases[0].folder, "a folder without these labels", got, fix))
    first: dict[str, str] = {}
    for case in cases:
        other = first.setdefault(folded_name(case.label), case.name)
        if other != case.name:
            got = f"{other!r} and {case.name!r}, which are one file name where upper and lower case are alike"
            raise ValueError(error_sentence("names", "cases whose names differ", got, "rename a case in the list"))


def _print_empty_regions(regions: Mapping[str, Sequence[int]], values: Sequence[int]) -> None:
    empty = regions_without_label(regions, values, where="--regions")
    if empty is not None:
        typer.echo(empty, err=True)


def _require_files(paths: Sequence[str]) -> None:
    """Report all missing files at once. Warn of a file that is given twice, since it votes twice."""
    problems = []
    for number, path in enumerate(paths):
        if not can_be_volume(path):
            got = "a folder" if os.path.isdir(path) else "nothing at that path"
            problems.append(DataProblem(path, "a rater's label map", got, "correct the path"))
        elif any(os.path.exists(other) and os.path.samefile(path, other) for other in paths[:number]):
            typer.echo(DataProblem(path, "each rater's file once", "it is there again", "remove one", fatal=False), err=True)
    if problems:
        raise DataProblemError(problems)


def _rater_count(listed: Sequence[RatedCase]) -> int:
    """Return how many raters each case has. A weight belongs to one rater, who has the same place in every case."""
    expected = "a list whose cases all have the same raters in the same order"
    first = listed[0]
    for case in listed:
        if len(case.files) != len(first.files) or case.raters != first.raters:
            got = f"{', '.join(first.raters)} in {first.name}, {', '.join(case.raters)} in {case.name}"
            raise ValueError(error_sentence("--weights", expected, got, "leave it out, or fuse such cases by themselves"))
    return len(first.files)


def _people(listed: Sequence[RatedCase]) -> list[str]:
    """Return the names of all raters of a list that names them."""
    nameless = next((case.name for case in listed if not case.named), None)
    if nameless is not None:
        fix = "write one number per rater, or name the raters in the list"
        raise ValueError(error_sentence("--weights by name", "a list that names its raters", f"none in {nameless}", fix))
    return list(dict.fromkeys(name for case in listed for name in case.raters))


def _weights_by_name(text: str, names: Sequence[str]) -> dict[str, float]:
    given: dict[str, float] = {}
    for part in text.split(","):
        name, equals, weight = part.rpartition("=")
        try:
            given[name.strip()] = float(weight if equals else "")
        except ValueError:
            fix = f"--weights '{names[0]}=2'"
            raise ValueError(error_sentence("--weights", "NAME=NUMBER, with commas", repr(part), fix)) from None
    return checked_weights(given, names, "--weights")


def _weights(text: str, raters: int) -> tuple[float, ...]:
    try:
        numbers = tuple(float(weight) for weight in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) != raters:
        fix = f"--weights {','.join(['1'] * raters)}"
        raise ValueError(error_sentence("--weights", f"{raters} numbers, one for each rater, with commas", repr(text), fix))
    return numbers
