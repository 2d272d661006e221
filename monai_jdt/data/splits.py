"""Training and validation: one random split, or folds for cross-validation, always by patient."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from monai_jdt.validation import error_sentence


def split_cases(
    items: Sequence[Mapping[str, Any]], fraction: float = 0.2, seed: int = 0, *, key: str = "case"
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Split cases into training and validation, by patient.

    All time points of a patient go to one side: names such as BraTS-GLI-00001-001 (time point 001 of patient
    BraTS-GLI-00001), case1-2 (scan 2 of patient case1, QUBIQ's pancreas sets), 01_ses-2 (BIDS) and LIDC-IDRI-0001_3 or
    LNDb-0001_3 (a crop of one patient) are split into patient and part. The tasks of a case stay together too. Any other name is a
    patient of its own. Equal names in two data sets ("dataset") are two patients.

    Args:
        items: dictionaries as those of :func:`brats_datalist`.
        fraction: the share of patients for validation, in (0, 1). Rounded, with at least one patient on each side.
        seed: of the draw. The draw depends on the set of patients, not on the order of the items.
        key: the item's key that names the case (or the patient).

    Returns:
        `(train, validation)`: new lists in the order of `items`, of shallow copies.

    Raises:
        ValueError: if `fraction` is not in (0, 1), if an item lacks `key`, or if there are fewer than two patients.

    Example:
        >>> train, validation = split_cases([{"case": f"case{i}"} for i in range(10)], fraction=0.3)
        >>> len(train), len(validation)
        (7, 3)
    """
    if not 0.0 < fraction < 1.0:
        raise ValueError(error_sentence("fraction", "a number between 0 and 1, both excluded", repr(fraction), "pass 0.2"))
    patients = patients_of(items, key)
    names = sorted(set(patients))
    if len(names) < 2:
        fix = "add cases, or use the same list on both sides on purpose"
        raise ValueError(error_sentence("items", "at least 2 patients to split", _patients_there(names, items), fix))
    _check_seed(seed)
    size = min(max(round(fraction * len(names)), 1), len(names) - 1)
    # Sorted names: the draw is the same for a list in another order.
    drawn = {names[i] for i in np.random.default_rng(seed).permutation(len(names))[:size]}
    sides: tuple[list[dict[str, Any]], list[dict[str, Any]]] = ([], [])
    for patient, item in zip(patients, items, strict=True):
        sides[patient in drawn].append(dict(item))
    return sides


def folds(
    items: Sequence[Mapping[str, Any]], k: int = 5, seed: int | None = None, *, key: str = "case"
) -> list[tuple[list[dict[str, Any]], list[dict[str, Any]]]]:
    """Cut cases into k folds for cross-validation, by patient as :func:`split_cases`.

    Without a seed the folds are blocks of patients in the order of the list: `n // k` of n patients each, and the last one
    takes the rest. The JDT paper's code (arXiv:2302.05666) cuts the QUBIQ sets this way: 39 cases make folds of 7, 7, 7, 7
    and 11.

    Args:
        items: dictionaries as those of :func:`brats_datalist`.
        k: how many folds, from 2 to the number of patients.
        seed: None: by the order of the list. A number: by a draw that depends on the set of patients. The folds differ by
            at most one patient.
        key: the item's key that names the case (or the patient).

    Returns:
        k pairs `(train, validation)` of new lists in the order of `items`, of shallow copies. Each item is in one
        validation list.

    Raises:
        ValueError: if `k` is out of its range, or if an item lacks `key`.

    Example:
        >>> cut = folds([{"case": f"case{i:02d}"} for i in range(1, 40)])
        >>> [len(validation) for _, validation in cut]
        [7, 7, 7, 7, 11]
    """
    patients = patients_of(items, key)
    names = list(dict.fromkeys(patients))
    if len(names) < 2:
        fix = "add cases, or use the same list on both sides on purpose"
        raise ValueError(error_sentence("items", "at least 2 patients for folds", _patients_there(names, items), fix))
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or not 2 <= k <= len(names):
        possible = "2 folds" if len(names) == 2 else f"2 to {len(names)} folds"
        fix = "ask for " + ("2" if len(names) == 2 else f"{len(names)} or fewer")
        raise ValueError(error_sentence("k", f"{possible}, at most as many as patients", repr(k), fix))
    if seed is None:
        size = len(names) // k
        blocks = [names[i * size : (i + 1) * size] if i < k - 1 else names[i * size :] for i in range(k)]
    else:
        _check_seed(seed)
        names.sort()
        order = np.random.default_rng(seed).permutation(len(names))
        blocks = [[names[i] for i in part] for part in np.array_split(order, k)]
    fold_of = {name: fold for fold, block in enumerate(blocks) for name in block}
    placed = [(fold_of[patient], item) for patient, item in zip(patients, items, strict=True)]
    return [
        ([dict(item) for fold, item in placed if fold != held], [dict(item) for fold, item in placed if fold == held])
        for held in range(k)
    ]


def _check_seed(seed: int) -> None:
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise ValueError(error_sentence("seed", "a whole number >= 0", repr(seed), "pass 0"))


def _patients_there(names: Sequence[str], items: Sequence[Mapping[str, Any]]) -> str:
    if not names:
        return "an empty list"
    return f"{len(names)} ({names[0]}, {len(items)} case{'s' if len(items) != 1 else ''})"


def patients_of(items: Sequence[Mapping[str, Any]], key: str = "case") -> list[str]:
    """Return each item's patient, by name."""
    for number, item in enumerate(items):
        if key not in item:
            raise ValueError(error_sentence(f"items[{number}]", f"the key {key!r}", str(sorted(item)), "name another key"))
    names = []
    for item in items:
        name = str(item[key])
        # BraTS-GLI-00001-001, case1-2, 01_ses-2, LIDC-IDRI-0001_3: the group that matched is the patient.
        match = re.fullmatch(r"(.*-\d{5})-\d{3}|(case\d+)-\d+|(.+?)_ses-.+|((?:LIDC-IDRI|LNDb)-\d{4})\D.*", name)
        patient = name if match is None else str(match[match.lastindex or 0])
        names.append(f"{item['dataset']}/{patient}" if item.get("dataset") else patient)
    return names
