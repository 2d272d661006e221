"""From a folder to a list of cases: the BraTS layouts of every year, the MSD's, and file name patterns for the rest."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from monai_jdt.data.problems import DataProblem, DataProblemError

#: Layout name to the region convention (see `regions.py`) of its label files. A BraTS 2024 set has the files of the
#: 2023 layout and one label more: its convention, "brats2024", must be named by hand.
LAYOUT_CONVENTIONS: Mapping[str, str] = MappingProxyType(
    {"brats2018": "brats2018", "brats2021": "brats2021", "brats2023": "brats2023", "msd": "msd"}
)

#: The channel order of every image that the package hands on.
MODALITIES: tuple[str, ...] = ("T1c", "T1", "T2", "FLAIR")

#: Where each of :data:`MODALITIES` stands in the MSD's 4D files, whose order is FLAIR, T1w, t1gd, T2w (`dataset.json`):
#: `image[list(MSD_CHANNELS)]` is T1c, T1, T2, FLAIR.
MSD_CHANNELS: tuple[int, ...] = (2, 1, 3, 0)

# File name endings of T1c, T1, T2, FLAIR. BraTS 2019 and 2020 have the names of 2018 and 2021.
_ENDINGS: Mapping[str, tuple[str, tuple[str, ...]]] = MappingProxyType(
    {
        "brats2018": ("_", ("t1ce", "t1", "t2", "flair")),
        "brats2021": ("_", ("t1ce", "t1", "t2", "flair")),
        "brats2023": ("-", ("t1c", "t1n", "t2w", "t2f")),
    }
)
_NIFTI = re.compile(r"\.nii(\.gz)?$", re.IGNORECASE)
_RATER = re.compile(r"seg_rater[-_]?(?P<rater>\w+)", re.IGNORECASE)
_EXPECTED = "cases in one of the layouts " + ", ".join(LAYOUT_CONVENTIONS)


def brats_datalist(root: str | os.PathLike[str], layout: str = "auto") -> list[dict[str, Any]]:
    """List the cases of a BraTS or MSD Task01 folder, with every rater's file.

    Files are found at any depth below `root` (hidden ones are skipped), `.nii` or `.nii.gz`, in upper or lower case.
    The raters of a case are its `<case>_seg_rater*` files in the order of their numbers, or, where there are none, the
    one `<case>_seg` file.

    Args:
        root: the folder. The paths in the answer are this folder joined with what lies below it: relative if it is.
        layout: a key of :data:`LAYOUT_CONVENTIONS`, or "auto" to see it from the file names.

    Returns:
        One dictionary a case, in the natural order of the case names:
        `{"case": name, "image": [T1c, T1, T2, FLAIR paths], "raters": [paths]}`. For the MSD, "image" is the path of
        one 4D file, and "channels" is its permutation to T1c, T1, T2, FLAIR (:data:`MSD_CHANNELS`). A phantom's true
        probability stands under "probability".

    Raises:
        ValueError: if `layout` is unknown.
        DataProblemError: if the folder is missing, holds no case or two layouts, or if a case lacks a modality or has
            no rater, has two files for one thing, or is there twice. All such problems are named at once.
    """
    if layout != "auto" and layout not in LAYOUT_CONVENTIONS:
        raise ValueError(f"layout: expected auto or one of {sorted(LAYOUT_CONVENTIONS)}, came {layout!r}")
    root = os.fspath(root)
    files = _nifti_files(root)
    if layout == "auto":
        layout = _layout_of(root, files)
    items, problems = _list_msd(root, files) if layout == "msd" else _list_brats(layout, files)
    if not items and not problems:
        problems = [_nothing_found(root, f"cases in the layout {layout}", files)]
    problems += _doubled(items)
    if problems:
        raise DataProblemError(problems)
    return sorted(items, key=lambda item: _natural(item["case"]))


def brats_layout(root: str | os.PathLike[str]) -> str:
    """Tell the layout of a folder from its file names.

    Args:
        root: as in :func:`brats_datalist`.

    Returns:
        A key of :data:`LAYOUT_CONVENTIONS`. "brats2018" (a folder HGG or LGG above the cases) and "brats2021" are read
        alike.

    Raises:
        DataProblemError: if the folder is missing, or holds no known layout, or two of them.
    """
    root = os.fspath(root)
    return _layout_of(root, _nifti_files(root))


def pattern_datalist(
    root: str | os.PathLike[str], image: Sequence[str] | str, raters: str, *, probability: str | None = None
) -> list[dict[str, Any]]:
    """List the cases of any other folder, by patterns of the paths below it.

    In a pattern, `{case}` is a part of one folder or file name that names the case (twice in a pattern: the same both
    times), `{rater}` one that names the rater, `*` anything but a slash, `?` one such character, `**` any folders.
    Nothing is case-folded, and hidden files are skipped.

    Args:
        root: the folder; paths in the answer begin with it.
        image: one pattern for each channel, or a single string for one file that holds all channels.
        raters: the pattern of the label files. Without `{rater}` a case has one rater.
        probability: the pattern of the true probability, where there is one.

    Returns:
        Items as those of :func:`brats_datalist`; "image" is a list if `image` is one. Raters are in natural order ("2"
        before "10").

    Raises:
        ValueError: if a pattern lacks `{case}`, or has another field.
        DataProblemError: if the folder is missing, if nothing matches, or if a case lacks an image or a rater or has
            two files for one thing.

    Example:
        `pattern_datalist(root, ["{case}/T1w.nii.gz", "{case}/T2w.nii.gz"], "{case}/seg_rater{rater}.nii.gz")`
    """
    root = os.fspath(root)
    images = [image] if isinstance(image, str) else list(image)
    if not images:
        raise ValueError("image: expected at least one pattern, came an empty list")
    found: dict[str, dict[str, list[tuple[str, str]]]] = {}
    patterns = [*images, raters] + ([probability] if probability is not None else [])
    rules = [(pattern, _pattern_regex(pattern, rater=pattern is raters)) for pattern in patterns]
    _check_folder(root)
    files = list(_walk(root))
    for file in files:
        for pattern, regex in rules:
            match = regex.fullmatch(os.path.relpath(file, root).replace(os.sep, "/"))
            if match is not None:
                rater = match.groupdict().get("rater", "")
                found.setdefault(match["case"], {}).setdefault(pattern, []).append((rater, file))
    if not found:
        raise DataProblemError([_nothing_found(root, "files that match " + " or ".join(patterns), files)])
    items, problems = [], []
    for case in sorted(found, key=_natural):
        matches, where = found[case], os.path.join(root, case)
        for pattern in [*images, raters]:
            if pattern not in matches:
                what = "at least one rater" if pattern == raters else "an image"
                problems.append(DataProblem(where, f"{what} by the pattern {pattern}", "none", "add it"))
        for pattern, hits in matches.items():
            names = [rater for rater, _ in hits]
            if len(set(names)) < len(names):
                came = ", ".join(sorted(file for _, file in hits)[:3])
                fix = "narrow the pattern, or use {rater} in the raters' pattern"
                problems.append(DataProblem(where, f"one file by the pattern {pattern}", came, fix))
        if problems:
            continue
        paths = [matches[pattern][0][1] for pattern in images]
        hits = sorted(matches[raters], key=lambda hit: _natural(hit[0]))
        item: dict[str, Any] = {"case": case, "image": paths[0] if isinstance(image, str) else paths}
        item["raters"] = [file for _, file in hits]
        if probability is not None and probability in matches:
            item["probability"] = matches[probability][0][1]
        items.append(item)
    if problems:
        raise DataProblemError(problems)
    return items


def split_cases(
    items: Sequence[Mapping[str, Any]], fraction: float = 0.2, seed: int = 0, *, key: str = "case"
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Split cases into training and validation, by patient.

    A case name that ends as BraTS-GLI-00001-001 is time point 001 of patient BraTS-GLI-00001, and all time points of a
    patient go to one side. Any other name is a patient of its own.

    Args:
        items: dictionaries as those of :func:`brats_datalist`.
        fraction: the share of patients for validation, in (0, 1); rounded, at least one patient on each side.
        seed: of the draw, which depends on the set of patients only, not on the order of the items.
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
        raise ValueError(f"fraction: expected a number between 0 and 1, both excluded, came {fraction!r}")
    for number, item in enumerate(items):
        if key not in item:
            raise ValueError(f"items[{number}]: expected the key {key!r}, came {sorted(item)}; name another key")
    patients = [_patient(str(item[key])) for item in items]
    names = sorted(set(patients))
    if len(names) < 2:
        raise ValueError(
            f"items: expected at least 2 patients to split, came {len(names)} ({len(items)} case(s)); "
            "add cases, or use the same list on both sides on purpose"
        )
    size = min(max(round(fraction * len(names)), 1), len(names) - 1)
    drawn = {names[i] for i in np.random.default_rng(seed).permutation(len(names))[:size]}
    sides: tuple[list[dict[str, Any]], list[dict[str, Any]]] = ([], [])
    for patient, item in zip(patients, items, strict=True):
        sides[patient in drawn].append(dict(item))
    return sides


def _patient(case: str) -> str:
    return re.sub(r"(?<=-\d{5})-\d{3}$", "", case)


def _natural(name: str) -> list[tuple[int, int, str]]:
    """A sort key that puts rater2 before rater10 and compares numbers with words."""
    parts = re.split(r"(\d+)", name)
    return [(0, int(part), part) if part.isdigit() else (1, 0, part.lower()) for part in parts if part]


def _check_folder(root: str) -> None:
    if not os.path.isdir(root):
        came = "a file" if os.path.exists(root) else "nothing at that path"
        problem = DataProblem(root or "''", f"a folder with {_EXPECTED}", came, "name the data set's folder")
        raise DataProblemError([problem])


def _walk(root: str) -> Iterator[str]:
    seen: set[str] = set()
    for folder, folders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:  # a link that leads back up
            folders[:] = []
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (os.path.join(folder, name) for name in sorted(files) if not name.startswith("."))


def _nifti_files(root: str) -> list[str]:
    _check_folder(root)
    return [file for file in _walk(root) if _NIFTI.search(file)]


def _nothing_found(root: str, expected: str, files: Iterable[str]) -> DataProblem:
    files = list(files)
    came = f"{len(files)} other files, e.g. {files[0]}" if files else "no NIfTI file"
    return DataProblem(root, expected, came, "name the folder that holds the cases, or use pattern_datalist")


def _split_name(file: str, layout: str) -> tuple[str, str] | None:
    """Case name and ending ("t1", "seg", "seg_rater3", "probability") of a BraTS file name; None if it is none."""
    mark, modalities = _ENDINGS[layout]
    stem = _NIFTI.sub("", os.path.basename(file))
    endings = "|".join((*modalities, r"probability", r"seg_rater[-_]?\w+", r"seg"))
    match = re.fullmatch(rf"(?P<case>.+?){mark}(?P<ending>{endings})", stem, re.IGNORECASE)
    return None if match is None else (match["case"], match["ending"].lower())


def _in_folder(file: str, *names: str) -> bool:
    return os.path.basename(os.path.dirname(os.path.abspath(file))).lower() in names


def _layout_of(root: str, files: Sequence[str]) -> str:
    found = set()
    for file in files:
        if _in_folder(file, "imagestr"):
            found.add("msd")
            continue
        for layout in ("brats2021", "brats2023"):
            name = _split_name(file, layout)
            # The label of a case is no witness: seg and probability files of other data sets have the same endings.
            if name is not None and name[1] in _ENDINGS[layout][1]:
                found.add(layout)
    if not found:
        raise DataProblemError([_nothing_found(root, _EXPECTED, files)])
    if len(found) > 1:
        fix = "name the layout, or the folder of one data set"
        raise DataProblemError([DataProblem(root, "one layout", " and ".join(sorted(found)), fix)])
    layout = found.pop()
    graded = any({"hgg", "lgg"} & set(os.path.abspath(f).lower().split(os.sep)) for f in files)
    return "brats2018" if layout == "brats2021" and graded else layout


def _list_brats(layout: str, files: Iterable[str]) -> tuple[list[dict[str, Any]], list[DataProblem]]:
    mark, modalities = _ENDINGS[layout]
    cases: dict[tuple[str, str], dict[str, list[str]]] = {}
    for file in files:
        name = _split_name(file, layout)
        if name is not None:
            cases.setdefault((os.path.dirname(file), name[0]), {}).setdefault(name[1], []).append(file)
    items, problems = [], []
    for (folder, case), found in cases.items():
        if not any(modality in found for modality in modalities):
            continue  # labels alone, e.g. an output folder
        where = os.path.join(folder, case)
        for modality in modalities:
            if modality not in found:
                came = "only " + ", ".join(m for m in modalities if m in found)
                expected = f"the modality file {case}{mark}{modality}.nii.gz"
                problems.append(DataProblem(where, expected, came, "add it, or remove the case"))
        problems += _two_files(where, found)
        raters = _raters(found)
        if not raters:
            problems.append(_no_rater(where, f"{case}{mark}seg"))
        images = [found[modality][0] for modality in modalities if modality in found]
        item: dict[str, Any] = {"case": case, "image": images, "raters": raters}
        if "probability" in found:
            item["probability"] = found["probability"][0]
        items.append(item)
    return items, problems


def _list_msd(root: str, files: Sequence[str]) -> tuple[list[dict[str, Any]], list[DataProblem]]:
    items, problems = [], []
    labels: dict[str, list[str]] = {}
    for file in files:
        if _in_folder(file, "labelstr"):
            labels.setdefault(os.path.dirname(os.path.dirname(file)), []).append(file)
    for file in files:
        if not _in_folder(file, "imagestr"):
            continue
        case = _NIFTI.sub("", os.path.basename(file))
        found: dict[str, list[str]] = {}
        for label in labels.get(os.path.dirname(os.path.dirname(file)), []):
            stem = _NIFTI.sub("", os.path.basename(label))
            if stem.lower() == case.lower():
                found.setdefault("seg", []).append(label)
            elif stem.lower().startswith(case.lower() + "_"):
                found.setdefault(stem[len(case) + 1 :].lower(), []).append(label)
        problems += _two_files(file, found)
        raters = _raters(found)
        if not raters:
            problems.append(_no_rater(file, f"labelsTr/{case}"))
        item: dict[str, Any] = {"case": case, "image": file, "raters": raters, "channels": list(MSD_CHANNELS)}
        if "probability" in found:
            item["probability"] = found["probability"][0]
        items.append(item)
    return items, problems


def _raters(found: Mapping[str, Sequence[str]]) -> list[str]:
    numbered = {match["rater"]: found[ending][0] for ending in found if (match := _RATER.fullmatch(ending))}
    if numbered:
        return [numbered[rater] for rater in sorted(numbered, key=_natural)]
    return list(found.get("seg", []))[:1]


def _no_rater(where: str, label: str) -> DataProblem:
    return DataProblem(where, f"raters: {label}_rater1.nii.gz, ..., or one {label}.nii.gz", "none", "add a label, or remove the case")


def _two_files(where: str, found: Mapping[str, Sequence[str]]) -> list[DataProblem]:
    return [
        DataProblem(where, f"one {ending} file", " and ".join(paths), "remove one of them")
        for ending, paths in found.items()
        if len(paths) > 1
    ]


def _doubled(items: Sequence[Mapping[str, Any]]) -> list[DataProblem]:
    first: dict[str, str] = {}
    problems = []
    for item in items:
        image = item["image"] if isinstance(item["image"], str) else item["image"][0]
        if item["case"] in first:
            fix = "remove one, or name the folder of one data set"
            problems.append(DataProblem(item["case"], "each case once", f"{first[item['case']]} and {image}", fix))
        first.setdefault(item["case"], image)
    return problems


def _pattern_regex(pattern: str, rater: bool) -> re.Pattern[str]:
    fields = ("case", "rater") if rater else ("case",)
    seen: set[str] = set()
    regex = ""
    for token in re.findall(r"\{[^}]*\}|\*\*/|\*\*|\*|\?|[^{*?]+|\{", pattern):
        if token.startswith("{"):
            field = token[1:-1]
            if field not in fields:
                known = " and ".join("{" + f + "}" for f in fields)
                raise ValueError(f"pattern {pattern!r}: expected the fields {known} only, came {token!r}")
            regex += f"(?P={field})" if field in seen else rf"(?P<{field}>[^/]+?)"
            seen.add(field)
        else:
            regex += {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}.get(token) or re.escape(token)
    if "case" not in seen:
        raise ValueError(f"pattern {pattern!r}: expected the field {{case}}, came none; add it")
    return re.compile(regex)
