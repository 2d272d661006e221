"""The verb `evaluate`: predictions that anyone made, against the raters of a list."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from monai_jdt.cli.region_text import regions_from_text
from monai_jdt.data.case_runner import write_case_rows
from monai_jdt.data.files.folder_lock import sole_run_in
from monai_jdt.data.names import user_path
from monai_jdt.validation import error_sentence

if TYPE_CHECKING:
    from monai_jdt.report.rated_cases import RatedCase

_DECISIONS = ("threshold", "expected_dice", "expected_jaccard")


def evaluate_command(
    context: typer.Context,
    predictions: Annotated[list[str], typer.Argument(help="One or more folders of predictions; others are compared with the first.")],
    datalist: Annotated[str, typer.Argument(help="A datalist JSON with the raters' files.")],
    dest: Annotated[str, typer.Option(help="The folder to write evaluation.csv and evaluation.html to.")] = "evaluation",
    section: Annotated[str, typer.Option(help="One list of the JSON, e.g. validation; or all.")] = "all",
    regions: Annotated[str, typer.Option(help="A convention, or JSON: '{\"cord\": [1]}', [[1, 4], [4]].")] = "[[1]]",
    pattern: Annotated[str | None, typer.Option(help="A prediction's path in its folder: '{case}/{task}.nii.gz'.")] = None,
    kind: Annotated[str, typer.Option(help="What the numbers are: auto, labels or probabilities.")] = "auto",
    decision: Annotated[str, typer.Option(help="Masks by: threshold (.5), expected_dice or expected_jaccard.")] = "threshold",
    empty_below: Annotated[float, typer.Option(help="A mask that is expected to score less is empty.", min=0, max=1)] = 0.0,
    exclusive: Annotated[
        bool | None,
        typer.Option("--exclusive/--independent", help="No voxel is in two regions. By default so if they share no label value."),
    ] = None,
    challenge: Annotated[str, typer.Option(help="Add the scores of a challenge: none, brats, qubiq or curvas.")] = "none",
    workers: Annotated[int, typer.Option(help="Processes.", min=1)] = 1,
    scheduler: Annotated[str | None, typer.Option(help="The address of a Dask scheduler, instead of processes here.")] = None,
    progress: Annotated[bool, typer.Option(help="Show a progress bar.")] = True,
) -> None:
    """Score predictions against each rater and their mean, and write a table, a page, and run.json for the verb `report`.

    Volumes and pictures of probabilities or labels, and nnU-Net's .npz files. With several folders the page has paired differences
    to the first. An interrupted run goes on by the same command. Exit code 1 if a case has no score.
    """
    # torch takes seconds to import; `--help` should not
    from monai_jdt.raters.region_names import named_regions
    from monai_jdt.report.challenge_scores import check_challenge
    from monai_jdt.report.evaluation_page import write_evaluation_page
    from monai_jdt.report.evaluation_rows import EvaluationCase, evaluation_rows, exclude_each_other
    from monai_jdt.report.prediction_files import PredictionKind
    from monai_jdt.report.rated_cases import rated_cases
    from monai_jdt.report.run_folder import RunModel, RunRecord, write_run

    _check_options(decision, kind, empty_below)
    check_challenge(challenge)
    dest = user_path(dest)
    models = _models(predictions)
    groups = named_regions(regions_from_text(regions))
    listed = rated_cases(datalist, section)
    cases, failures = _cases_of(models, listed, pattern)
    if not cases:
        raise ValueError(next(iter(failures.values())))
    names = [name for name, *_ in cases]
    apart = exclude_each_other(groups) if exclusive is None else exclusive
    choices = (groups, PredictionKind(kind), decision, empty_below, challenge, apart)
    work = [
        EvaluationCase(model, case.name, case.patient, path, case.files, case.raters, *choices, case.foreground)
        for _, model, case, path in cases
    ]
    table, page = os.path.join(dest, "evaluation.csv"), os.path.join(dest, "evaluation.html")
    files = [(case.prediction, *case.files) for case in work]
    how: dict[str, Any] = {"what": "evaluate", "workers": workers, "scheduler": scheduler, "progress": progress}
    context.with_resource(sole_run_in(dest))
    outcomes = write_case_rows(evaluation_rows, work, names, files, table, **how)
    rows = [row for outcome in outcomes for row in outcome.result or ()]
    failures |= {outcome.name: outcome.failure for outcome in outcomes if outcome.failure is not None}
    settings = {"section": section, "regions": regions, "pattern": pattern or "", "kind": kind, "decision": decision}
    settings["challenge"] = challenge
    recorded = tuple(RunModel(name, folder, kind, pattern) for name, folder in models.items())
    place = user_path(datalist)
    made = (tuple(listed), recorded, groups, decision, section, failures, empty_below, apart)
    write_run(dest, RunRecord("evaluate", settings, place, *made))
    note = f"Masks by {'the threshold .5' if decision == 'threshold' else 'the best ' + decision.replace('_', ' ')}."
    note += f" Expected scores below {empty_below:g}: empty." if empty_below else ""
    folders = [dest, os.path.dirname(os.path.abspath(place))]
    write_evaluation_page(rows, list(models), page, title=os.path.basename(datalist), failures=failures, note=note, folders=folders)
    _print_summary(rows)
    typer.echo(f"{table}\n{page}")
    for name, failure in failures.items():
        typer.echo(f"{name}: {failure}", err=True)
    if failures:
        raise typer.Exit(1)


def _check_options(decision: str, kind: str, empty_below: float) -> None:
    from monai_jdt.report.prediction_files import PredictionKind

    if decision not in _DECISIONS:
        raise ValueError(error_sentence("--decision", f"one of {list(_DECISIONS)}", repr(decision), "name one of them"))
    if empty_below and decision == "threshold":
        fix = "--decision expected_dice, or leave it out"
        raise ValueError(error_sentence("--empty-below", "0 with --decision threshold", f"{empty_below:g}", fix))
    if kind not in {member.value for member in PredictionKind}:
        raise ValueError(error_sentence("--kind", "auto, labels or probabilities", repr(kind), "name one of them"))


def _print_summary(rows: Sequence[Mapping[str, Any]]) -> None:
    from monai_jdt.report.evaluation_page import evaluation_summary

    for region, scores in evaluation_summary(rows).items():
        for by_model in scores.values():
            for model, estimate in by_model.items():
                typer.echo(f"{region}: {model}: {estimate.label}: {estimate.text()}, {estimate.cases} cases")


def _models(predictions: Sequence[str]) -> dict[str, str]:
    """Return each folder under its name. Folders of one name get longer names that tell them apart."""
    from monai_jdt.report.joined_runs import distinct_folder_names

    folders = [os.path.abspath(user_path(folder)) for folder in predictions]
    for given, folder in zip(predictions, folders, strict=True):
        if not os.path.isdir(folder):
            got = "a file" if os.path.exists(folder) else "nothing at that path"
            raise NotADirectoryError(error_sentence(given, "a folder of predictions", got, "name the folder"))
    names = distinct_folder_names(folders)
    if len(set(names)) < len(names):
        raise ValueError(error_sentence("predictions", "each folder once", "a folder twice", "name it once"))
    return dict(zip(names, folders, strict=True))


def _cases_of(
    models: Mapping[str, str], listed: Sequence[RatedCase], pattern: str | None
) -> tuple[list[tuple[str, str, RatedCase, str]], dict[str, str]]:
    """Return the row's name, model, case and file of each prediction, and by name what is wrong with the others."""
    from monai_jdt.report.prediction_files import PredictionFolder

    found, failures = [], {}
    for model, path in models.items():
        folder = PredictionFolder(path, [case.plain for case in listed], pattern)
        for case in listed:
            name = case.name if len(models) == 1 else f"{model}: {case.name}"
            try:
                found.append((name, model, case, folder.path_of(case.plain, case.others)))
            except ValueError as error:
                failures[name] = str(error)
    return found, failures
