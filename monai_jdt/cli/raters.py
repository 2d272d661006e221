"""The verb `raters`: how much the raters of a list agree, before there is any model."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from monai_jdt.cli.region_text import regions_from_text
from monai_jdt.data.case_runner import write_case_rows
from monai_jdt.data.files.folder_lock import sole_run_in
from monai_jdt.data.files.foreground import checked_foreground
from monai_jdt.data.names import user_path
from monai_jdt.validation import error_sentence


def raters_command(
    context: typer.Context,
    datalist: Annotated[str, typer.Argument(help="A datalist JSON, e.g. of `python -m monai_jdt datalist ... --write`.")],
    dest: Annotated[str, typer.Argument(help="The folder to write agreement.csv and agreement.html to.")] = "rater_agreement",
    section: Annotated[str, typer.Option(help="One list of the JSON, e.g. training; or all.")] = "all",
    regions: Annotated[str, typer.Option(help="A convention, or JSON: '{\"cord\": [1]}', [[1, 4], [4]].")] = "[[1]]",
    foreground: Annotated[str | None, typer.Option(help="Masks of two values: that of the mark, 255 or 0, or a colour.")] = None,
    boundary: Annotated[bool | None, typer.Option(help="Measure distances between boundaries; needs scipy.")] = None,
    workers: Annotated[int, typer.Option(help="Processes.", min=1)] = 1,
    scheduler: Annotated[str | None, typer.Option(help="The address of a Dask scheduler, instead of processes here.")] = None,
    progress: Annotated[bool, typer.Option(help="Show a progress bar.")] = True,
) -> None:
    """Compare the raters of each case, and write a table and a page.

    Pairwise Dice and Jaccard, Fleiss' kappa, STAPLE sensitivity and specificity, volumes, distances between boundaries in mm; who is
    missing, identical, mirrored. An interrupted run goes on by the same command. Exit code 1 if a case could not be read.
    """
    # torch takes seconds to import; `--help` should not
    from monai_jdt.raters.region_names import named_regions
    from monai_jdt.report.agreement_page import agreement_summary, write_agreement_page
    from monai_jdt.report.agreement_rows import AgreementCase, agreement_rows, can_measure_boundaries
    from monai_jdt.report.rated_cases import rated_cases

    dest = user_path(dest)
    groups = named_regions(regions_from_text(regions))
    if boundary and not can_measure_boundaries():
        raise ValueError(error_sentence("--boundary", "scipy", "it is not installed", "pip install 'monai-jdt[scipy]'"))
    measured = can_measure_boundaries() if boundary is None else boundary
    listed = rated_cases(datalist, section)
    names = [case.name for case in listed]
    mark = checked_foreground(foreground, "--foreground")
    cases = [
        AgreementCase(case.name, case.patient, case.files, case.raters, groups, measured, case.foreground if mark is None else mark)
        for case in listed
    ]
    table, page = os.path.join(dest, "agreement.csv"), os.path.join(dest, "agreement.html")
    context.with_resource(sole_run_in(dest))
    outcomes = write_case_rows(
        agreement_rows,
        cases,
        names,
        [case.files for case in cases],
        table,
        what="raters",
        workers=workers,
        scheduler=scheduler,
        progress=progress,
    )
    rows = [row for outcome in outcomes for row in outcome.result or ()]
    failures = {outcome.name: outcome.failure for outcome in outcomes if outcome.failure is not None}
    named = all(case.named for case in listed)
    note = "" if named else "The list gives raters no names. So they are exchangeable, and nothing is said of one rater over cases."
    note += "" if measured else " Boundaries were not measured."
    folders = [dest, os.path.dirname(os.path.abspath(datalist))]
    write_agreement_page(rows, page, title=os.path.basename(datalist), named=named, failures=failures, note=note, folders=folders)
    for region, estimates in agreement_summary(rows).items():
        for estimate in estimates:
            typer.echo(f"{region}: {estimate.label}: {estimate.text()}, {estimate.cases} cases")
    typer.echo(f"{table}\n{page}")
    for name, failure in failures.items():
        typer.echo(f"{name}: {failure}", err=True)
    if failures:
        raise typer.Exit(1)
