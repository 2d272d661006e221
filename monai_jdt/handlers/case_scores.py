"""A table of what an evaluator's metrics computed: one row for each case, region and score."""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import torch
from monai.handlers import IgniteMetricHandler
from monai.utils import optional_import
from monai.utils.dist import string_list_all_gather

from monai_jdt.data.files.atomic import whole_file
from monai_jdt.data.files.volumes import WITHOUT_PLACE
from monai_jdt.functional.metric_labels import LabelRule
from monai_jdt.functional.rater_dice import rater_dice
from monai_jdt.handlers.case_figure import decollated
from monai_jdt.validation import error_sentence

if TYPE_CHECKING:
    from ignite.engine import Engine

_Events, _ = optional_import("ignite.engine", name="Events")
_idist, _ = optional_import("ignite.distributed")

#: Voxel of 1 mm to the unit of a volume: cm2 in 2D, ml in 3D.
_VOXELS_PER_UNIT = {2: 100.0, 3: 1000.0}


class ListedCase(Protocol):
    """What a table says of a case, such as `monai_jdt.report.rated_cases.RatedCase`."""

    @property
    def name(self) -> str:
        """What it is called in the table."""

    @property
    def plain(self) -> str:
        """The evaluator's name of it. Cases of two tasks or data sets may share it."""

    @property
    def patient(self) -> str:
        """Whose it is."""

    @property
    def raters(self) -> tuple[str, ...]:
        """Each rater's name."""

    @property
    def files(self) -> tuple[str, ...]:
        """Each rater's label map."""

    @property
    def others(self) -> Mapping[str, str]:
        """Its "dataset" and "task", where it has them."""


def key_of_item(item: Mapping[str, Any], case_key: str = "case") -> tuple[str, str, str]:
    """Return what tells an item from all others of its list: case, data set and task.

    Args:
        item: of a batch.
        case_key: the key of the case's name.
    """
    return str(item[case_key]), str(item.get("dataset") or ""), str(item.get("task") or "")


def key_of_case(case: ListedCase) -> tuple[str, str, str]:
    """Return the same of a case of a list, as :func:`key_of_item`.

    Args:
        case: the case.
    """
    return case.plain, case.others.get("dataset", ""), case.others.get("task", "")


class CaseScoresWriter:
    """Write the scores that an evaluator's metrics keep of each case, and the Dice score with each rater, as CSV.

    The columns are `model, case, patient, region, rater, score, value`, as the verb `evaluate` writes them. Without `cases` they are
    `case, region, score, value`. The file is replaced as a whole when the evaluator has run through: one that is killed leaves the
    earlier file.

    Args:
        path: the file; folders are made.
        scores: name of a score in the table to its metric: a handler such as :class:`monai_jdt.handlers.MeanSoftDice`, which is
            attached to the evaluator under that name, or the name of a metric that the evaluator has already. It must keep details
            `(cases, regions)`, as MONAI's handlers of metrics do with `save_details`.
        regions: names of the channels, and for `votes_key` each one's label values.
        cases: the cases of the evaluator's data, whose names, patients and raters the table has; None: the names in the batches.
        model: what stands in the column "model".
        votes_key: key of the votes `(R, *S)` in the evaluator's items. Each rater's Dice with the mask and the mean of a case's raters
            are added, as `dice` and `dice_raters`; two empty sets are undefined. None: they are left out.
        mask_key: key of the mask `(C, *S)`.
        case_key: key of a case's name.
        in_voxels: scores in cm2 or ml, each with the name that it gets, counted in voxels, where no file of a case's raters has
            voxel sizes.

    Raises:
        ValueError: when the evaluator ends: a metric without such details, or a case that is not among `cases`.

    Example:
        >>> CaseScoresWriter("eval/evaluation.csv", {"dice_majority": "val_mean_dice"}, ["cord"]).attach(evaluator)  # doctest: +SKIP
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        scores: Mapping[str, str | IgniteMetricHandler],
        regions: Mapping[str, Sequence[int]] | Sequence[str],
        cases: Sequence[ListedCase] | None = None,
        model: str = "model",
        votes_key: str | None = None,
        mask_key: str = "pred",
        case_key: str = "case",
        in_voxels: Mapping[str, str] | None = None,
    ) -> None:
        if votes_key is not None and (cases is None or not isinstance(regions, Mapping)):
            raise ValueError(error_sentence("votes_key", "cases and regions with label values beside it", "one without", "give both"))
        self.path = os.fspath(path)
        self.scores = dict(scores)
        self.regions = regions
        self.cases = None if cases is None else {key_of_case(case): case for case in cases}
        self.model = model
        self.votes_key = votes_key
        self.mask_key = mask_key
        self.case_key = case_key
        self.in_voxels = dict(in_voxels or {})
        self._seen: list[str] = []

    def attach(self, engine: Engine) -> None:
        """Look at each item of the evaluator, after its postprocessing, and write when it has run through."""
        for score, metric in self.scores.items():
            if isinstance(metric, IgniteMetricHandler):
                metric.attach(engine, score)
        engine.add_event_handler(_Events.STARTED, lambda _: self._seen.clear())
        engine.add_event_handler(_Events.ITERATION_COMPLETED, self._look)
        engine.add_event_handler(_Events.COMPLETED, self)

    def _look(self, engine: Engine) -> None:
        for item in decollated(engine):
            seen = {"key": key_of_item(item, self.case_key), "dims": item[self.mask_key].ndim - 1, "dice": []}
            if self.votes_key is not None:
                rule = LabelRule(votes=True, regions=tuple(tuple(values) for values in self.regions.values()))  # type: ignore[union-attr]
                mask, votes = item[self.mask_key][None], item[self.votes_key][None]
                seen["dice"] = [rater_dice(mask, votes[:, r : r + 1], rule=rule)[0].tolist() for r in range(votes.shape[1])]
            # as text, which can be gathered from all processes
            self._seen.append(json.dumps(seen))

    def __call__(self, engine: Engine) -> None:
        """Write the table. Every process has to call it."""
        seen = [json.loads(text) for text in string_list_all_gather(self._seen) if text]
        rows = self._rows(engine, seen)
        if _idist.get_rank() > 0:
            return
        columns = list(self._columns(None, "", "", "", 0.0))
        # a name of a file may hold bytes that are no text
        with whole_file(self.path) as draft, open(draft, "w", encoding="utf-8", newline="", errors="backslashreplace") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(rows)

    def _rows(self, engine: Engine, seen: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        names = {score: metric if isinstance(metric, str) else score for score, metric in self.scores.items()}
        details = {score: self._details(engine, name, len(seen)) for score, name in names.items()}
        cases = [self._case_of(tuple(one["key"])) for one in seen]
        order = list(range(len(seen)))
        if self.cases is not None:
            place = {key: number for number, key in enumerate(self.cases)}
            order.sort(key=lambda number: place[tuple(seen[number]["key"])])  # of several processes, each has gathered its own
        rows = []
        for number in order:
            case, one = cases[number], seen[number]
            name = case.name if case is not None else one["key"][0]
            for channel, region in enumerate(self.regions):
                by_rater = [scores[channel] for scores in one["dice"]]
                for rater, value in zip(case.raters if case is not None else (), by_rater, strict=bool(by_rater)):
                    rows.append(self._columns(case, name, region, "dice", value, rater))
                if by_rater:
                    rows.append(self._columns(case, name, region, "dice_raters", _mean_of_defined(by_rater)))
                for score, numbers in details.items():
                    value = float(numbers[number, channel])
                    if score in self.in_voxels and case is not None and _has_no_voxel_sizes(case):
                        score, value = self.in_voxels[score], value * _VOXELS_PER_UNIT[one["dims"]]
                    rows.append(self._columns(case, name, region, score, value))
        return rows

    def _columns(self, case: ListedCase | None, name: str, region: str, score: str, value: float, rater: str = "") -> dict[str, Any]:
        if self.cases is None:
            return {"case": name, "region": region, "score": score, "value": value}
        patient = "" if case is None else case.patient
        start = {"model": self.model, "case": name, "patient": patient, "region": region}
        return start | {"rater": rater, "score": score, "value": value}

    def _case_of(self, key: tuple[str, ...]) -> ListedCase | None:
        if self.cases is None:
            return None
        if key not in self.cases:
            raise ValueError(error_sentence("cases", "every case of the evaluator's data", f"none called {key[0]!r}", "pass its data"))
        return self.cases[key]

    def _details(self, engine: Engine, metric: str, cases: int) -> torch.Tensor:
        found = getattr(engine.state, "metric_details", {}).get(metric)
        expected = (cases, len(self.regions))
        if not isinstance(found, torch.Tensor) or found.shape != expected:
            got = f"shape {tuple(found.shape)}" if isinstance(found, torch.Tensor) else "none"
            fix = "name a metric of the evaluator that keeps details, or correct regions"
            raise ValueError(error_sentence(f"scores, {metric}", f"details of shape {expected}, a row for each case", got, fix))
        return found


def _has_no_voxel_sizes(case: ListedCase) -> bool:
    return all(file.lower().endswith(WITHOUT_PLACE) for file in case.files)


def _mean_of_defined(values: Sequence[float]) -> float:
    defined = [value for value in values if not math.isnan(value)]
    return math.fsum(defined) / len(defined) if defined else math.nan
