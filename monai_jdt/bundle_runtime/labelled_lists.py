"""The training cases whose labels are used, and those that are trained on without a label."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from monai_jdt.bundle_runtime.case_lists import Split, section_there
from monai_jdt.data.datalist_file import read_datalist
from monai_jdt.data.inspection.cases import check_items
from monai_jdt.data.splits import patients_of, split_cases
from monai_jdt.validation import error_sentence

logger = logging.getLogger(__name__)

#: The section of a data list whose cases have no label.
UNLABELLED = "unlabelled"


def labelled_cases(
    split: Sequence[Sequence[Mapping[str, Any]]],
    datalist_file: str | None = None,
    *,
    fraction: float | None = None,
    seed: int = 0,
    channels: int | None = None,
) -> Split:
    """Divide what is trained on into cases with and without a label.

    Cases without a label are those of the data list's section "unlabelled", whose images are checked here, and those of the training
    cases that the draw takes. Nothing of the labels of the latter is used. A patient's cases are on one side.

    Args:
        split: the cases that are trained on, and those that are validated.
        datalist_file: the data list, if there is one.
        fraction: the share of the training's patients whose labels are used, in (0, 1]. None: 1 with such a section, otherwise 0.5.
        seed: of the draw.
        channels: the number of image channels.

    Returns:
        The cases with a label, and those without.

    Raises:
        ValueError: no case would be without a label, or as :func:`monai_jdt.data.split_cases`.
        DataProblemError: images of the section that cannot be read.

    Example:
        >>> cases = [{"case": f"case{n}", "image": "a.nii"} for n in range(4)]
        >>> [len(side) for side in labelled_cases((cases, []), fraction=0.25)]
        [1, 3]
    """
    training, validation = split
    held = None if datalist_file is None else section_there(datalist_file, UNLABELLED)
    listed = [] if datalist_file is None or held is None else [dict(item) for item in read_datalist(datalist_file, UNLABELLED)]
    if listed:
        check_items(listed, channels=channels, labelled=False)
    share = (1.0 if listed else 0.5) if fraction is None else fraction
    if share == 1 and not listed:
        expected = f"a number below 1, or a data list with a section {UNLABELLED!r}"
        raise ValueError(error_sentence("labelled_fraction", expected, "1: no case without a label", "--labelled_fraction 0.5"))
    labelled, hidden = ([dict(item) for item in training], []) if share == 1 else split_cases(training, 1 - share, seed)
    unlabelled = hidden + listed
    logger.info("%d cases are trained on with their labels, %d without", len(labelled), len(unlabelled))
    shared = sorted(set(patients_of(unlabelled)) & set(patients_of(validation))) if validation else []
    if shared:
        logger.warning("patients of the validation are trained on without a label: %s", ", ".join(shared[:5]))
    return labelled, unlabelled
