"""What a bundle's evaluation writes when its evaluator has run: the record of the run, and the page."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence

from pydantic import BaseModel

from monai_jdt.bundle_runtime.workflow import StartedRun, started_run
from monai_jdt.data.names import safe_relative_name
from monai_jdt.report.rated_cases import RatedCase
from monai_jdt.report.run_folder import RunModel, RunRecord, write_run
from monai_jdt.validation import error_sentence

logger = logging.getLogger(__name__)

#: Settings that are no text, or are in the record otherwise.
_NOT_RECORDED = ("datalist",)


def write_evaluation_files(
    output_dir: str | os.PathLike[str],
    declared: type[BaseModel],
    *,
    model: str,
    source: str,
    cases: Sequence[RatedCase],
    regions: Mapping[str, Sequence[int]],
    decision: str,
    empty_below: float = 0.0,
    exclusive: bool = False,
    channel_dim: str | int | None = None,
    progress: bool = True,
) -> None:
    """Write `run.json` and `report.html` of an evaluation into its folder.

    The folder holds the rows of :class:`monai_jdt.handlers.CaseScoresWriter` as `evaluation.csv`, and the probabilities of each case
    that :class:`monai_jdt.handlers.CaseVolumeWriter` wrote as `scored/<case>.nii.gz`.

    Args:
        output_dir: the folder.
        declared: the settings of the run, e.g. :class:`QubiqEvaluation`, whose values are recorded.
        model: what stands in the column "model" of the rows.
        source: the data list's file, or the folder of the data.
        cases: the cases that were evaluated.
        regions: name to label values.
        decision: how masks were made.
        empty_below: masks that were expected to score less were left empty.
        exclusive: no voxel can be in two regions, as with `softmax` of :class:`monai_jdt.transforms.DecideMaskd`.
        channel_dim: the axis of the channels in the images' files.
        progress: whether to show a progress bar.
    """
    folder = os.path.expanduser(os.fspath(output_dir))
    run = started_run()
    # the files are named by the case, which is unique, and by a name that stays in the folder
    placed = tuple(RatedCase(**{**vars(case), "plain": safe_relative_name(case.plain)}) for case in cases)
    record = RunRecord(
        what="evaluation of a bundle",
        settings={} if run is None else _settings_as_text(run, declared),
        datalist=source,
        cases=placed,
        models=(RunModel(model, os.path.join(folder, "scored"), "probabilities", "{case}.nii.gz"),),
        regions={name: tuple(values) for name, values in regions.items()},
        decision=decision,
        section="validation",
        empty_below=empty_below,
        exclusive=exclusive,
        channel_dim=channel_dim,
    )
    write_run(folder, record)
    _write_page(folder, progress)


def _write_page(folder: str, progress: bool) -> None:
    """Write the page. What it lacks is told, but the evaluation has done its work."""
    # training and prediction import this module too, and need no charts
    from monai_jdt.report.run_page import write_run_report

    page = os.path.join(folder, "report.html")
    try:
        unread = write_run_report([folder], page, progress=progress)
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        fix = f"pip install {package}, then python -m monai_jdt report {folder}"
        logger.warning(error_sentence(page, f"the package {package}", "none", fix))
        return
    for name, problem in unread.items():
        logger.warning("%s: %s", name, problem)
    logger.info("report: %s", page)


def _settings_as_text(run: StartedRun, declared: type[BaseModel]) -> dict[str, str]:
    names = [name for name in declared.model_fields if name in run.config and name not in _NOT_RECORDED]
    return {name: str(run.parser.get_parsed_content(name)) for name in names}
