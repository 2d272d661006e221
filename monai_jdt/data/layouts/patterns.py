"""Any other layout: from a folder to a list of cases by patterns of file names."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from monai_jdt.data.file_names import names_by_difference
from monai_jdt.data.layouts.folders import natural_key, nothing_found, require_folder, walk_files
from monai_jdt.data.layouts.listing import CaseList, SkippedPath, files_not_taken
from monai_jdt.data.names import folded_name, user_path
from monai_jdt.data.problems import DataProblem, DataProblemError
from monai_jdt.validation import error_sentence

# The number of cases that lack a file and are named one by one. More of them are one line, since then the likely cause is the pattern.
_NAMED = 3

# The endings of files that hold the voxels of a header file beside them, with the endings of such headers.
_DETACHED = {".raw": (".mhd", ".nhdr"), ".zraw": (".mhd",), ".gz": (".nhdr",), ".img": (".hdr",)}


def pattern_datalist(
    root: str | os.PathLike[str],
    image: Sequence[str] | str,
    raters: Sequence[str] | str,
    *,
    probability: str | None = None,
    task: str | None = None,
) -> CaseList:
    """List the cases of any other folder, by patterns of the paths below it.

    In a pattern, `{case}` stands for the part of a folder or file name that names the case (the same text each time),
    `{rater}` for the part that names the rater, the same person in every case, `{slot}` for the part that tells apart the
    files of raters who are not the same people in the next case, `*` for anything but a slash, `?` for one such character, and
    `**` for any folders. Every other character, brackets too, stands for itself. Upper and lower case are the same, and so are the two
    encodings of an accent: `seg_{case}.png` matches `Seg_m23.png`, also for the case of the image `M23.png`. Two images
    whose names differ in nothing else are two cases. A file that several patterns match belongs to the pattern with the most
    literal characters: with `LNDb-{case}.mhd` and `LNDb-{case}_rad{slot}.mhd`, `LNDb-0001_rad1.mhd` belongs to a rater.
    Hidden files are skipped.

    Args:
        root: the folder. Paths in the answer begin with it.
        image: one pattern for each channel, or a single string for one file that holds all channels.
        raters: the pattern of the label files, or several patterns. One without `{rater}` is one rater, the same in each case.
        probability: the pattern of the true probability, where there is one.
        task: the value of "task" in every item. None: "segmentation".

    Returns:
        Items as those of :func:`brats_datalist`. "image" is a list if `image` is one. Raters are in the order of their
        patterns, and those of one pattern in natural order ("2" before "10"). Their names stand under "rater_names" in the
        same order: the text of `{rater}` ("rater 2" for digits alone), or what differs in the patterns; names that two patterns
        share begin with what differs in these. There are none with `{slot}`, or with one pattern that has neither. The list's
        `found` counts the raters, and names the files that were left out.

    Raises:
        ValueError: if a pattern lacks `{case}`, has another field, or is given twice.
        DataProblemError: if the folder is missing, if a pattern matches nothing, or if a case lacks an image or a rater or
            has two files for one thing.

    Example:
        Two channels: `pattern_datalist(root, ["{case}/T1w.nii.gz", "{case}/T2w.nii.gz"], "{case}/seg_rater{rater}.nii.gz")`.
        LNDb: `pattern_datalist(root, "**/LNDb-{case}.mhd", "**/LNDb-{case}_rad{slot}.mhd")`.
        Two observers: `pattern_datalist(root, "{case}.jpg", ["{case}_1stHO.png", "{case}_2ndHO.png"])`.
        BIDS: `pattern_datalist(root, "sub-{case}/anat/sub-{case}_T1w.nii.gz",
        "derivatives/{rater}/sub-{case}/anat/sub-{case}_label-lesion_mask.nii.gz")`.
    """
    root = user_path(root)
    rules = _rules(root, image, raters, probability)
    expected = "files that match " + " or ".join(rule.pattern for rule in rules)
    require_folder(root, expected)
    skipped: list[SkippedPath] = []
    files = list(walk_files(root, skipped))
    found, problems = _matched(root, files, rules, skipped)
    if not found and not problems:
        fix = "name the folder that the patterns begin at, or begin them with **/"
        raise DataProblemError([nothing_found(root, expected, files, fix)])
    problems += _absent(root, found, rules, files)
    problems += _doubled(root, found, rules)
    if problems:
        raise DataProblemError(sorted(problems, key=lambda problem: natural_key(problem.where)))
    names = _rater_names(found, rules)
    items = [_item(case, found[case], rules, names, isinstance(image, str), task) for case in sorted(found, key=natural_key)]
    every = set(files)
    skipped += files_not_taken((file for file in files if not _is_detached(file, every)), items, "no pattern matches")
    return CaseList(items, root, skipped)


@dataclass(frozen=True)
class _Rule:
    """A pattern, the kind of its files ("image", "raters", "probability"), and the regular expression of it."""

    pattern: str
    kind: str
    regex: re.Pattern[str]

    @property
    def literal(self) -> int:
        return len(re.sub(r"\{[^}]*\}|[*?]", "", self.pattern))


# case -> pattern -> (rater, file) of each file
_Found = dict[str, dict[str, list[tuple[str, str]]]]


def _rules(root: str, image: Sequence[str] | str, raters: Sequence[str] | str, probability: str | None) -> list[_Rule]:
    rules: list[_Rule] = []
    for kind, given in (("image", image), ("raters", raters), ("probability", [] if probability is None else probability)):
        patterns = [given] if isinstance(given, str) else list(given)
        if not patterns and kind != "probability":
            raise ValueError(error_sentence(kind, "at least one pattern", "an empty list", "write one, with {case}"))
        for pattern in (_below(root, pattern) for pattern in patterns):
            if pattern in [rule.pattern for rule in rules]:
                raise ValueError(error_sentence(kind, "patterns that differ", f"{pattern!r} twice", "remove one, or correct it"))
            rules.append(_Rule(pattern, kind, _pattern_regex(pattern, rater=kind == "raters")))
    return rules


def _below(root: str, pattern: str) -> str:
    """Return a pattern from the root on: without a leading `./`, and without the root's absolute path."""
    begin = os.path.join(os.path.abspath(root), "")
    return pattern[len(begin) :] if pattern.startswith(begin) else pattern.removeprefix("./")


def _matched(root: str, files: Sequence[str], rules: Sequence[_Rule], skipped: list[SkippedPath]) -> tuple[_Found, list[DataProblem]]:
    found: _Found = {}
    problems = []
    for file in files:
        below = unicodedata.normalize("NFC", os.path.relpath(file, root).replace(os.sep, "/"))
        hits = [(rule, match) for rule in rules if (match := rule.regex.fullmatch(below))]
        # LNDb-{case}.mhd matches LNDb-0001_rad1.mhd too, with the case 0001_rad1: the more literal pattern is the one meant.
        most = max((rule.literal for rule, _ in hits), default=0)
        hits = [(rule, match) for rule, match in hits if rule.literal == most]
        if len({rule.kind for rule, _ in hits}) > 1 or (len(hits) > 1 and hits[0][0].kind == "image"):
            got = " and ".join(rule.pattern for rule, _ in hits[:2])
            problems.append(DataProblem(file, "one pattern that matches it best", got, "write more of the name in one of them"))
            continue
        for rule, match in hits[:1]:
            place = found.setdefault(match["case"], {}).setdefault(rule.pattern, [])
            rater = match.groupdict().get("rater") or match.groupdict().get("slot") or ""
            same = next((other for name, other in place if name == rater and os.path.realpath(other) == os.path.realpath(file)), None)
            if same is None:
                place.append((rater, file))
            else:
                skipped.append(SkippedPath(file, f"the same file as {same}, by a link"))
    return _joined(found, [rule.pattern for rule in rules if rule.kind == "image"]), problems


def _joined(found: _Found, images: Sequence[str]) -> _Found:
    """Join the cases whose names differ in upper and lower case only, unless two of those with an image have files of one pattern."""
    alike: dict[str, list[str]] = {}
    for case in found:
        alike.setdefault(folded_name(case), []).append(case)
    joined: _Found = {}
    for cases in alike.values():
        with_image = [case for case in cases if any(pattern in found[case] for pattern in images)]
        if len(with_image) > 1 and not _halves(found, with_image):
            joined |= {case: found[case] for case in cases}
            continue
        whole: dict[str, list[tuple[str, str]]] = {}
        for case in cases:
            for pattern, pairs in found[case].items():
                whole.setdefault(pattern, []).extend(pairs)
        joined[[*with_image, *cases][0]] = whole
    return joined


def _halves(found: _Found, cases: Sequence[str]) -> bool:
    """Return whether no pattern has files of two of the cases, so that together they are one case."""
    patterns = [pattern for case in cases for pattern in found[case]]
    return len(set(patterns)) == len(patterns)


def _absent(root: str, found: _Found, rules: Sequence[_Rule], files: Sequence[str]) -> list[DataProblem]:
    """Return the problems of patterns that match nothing, of patterns that share no case, and of cases that lack a file."""
    silent = [rule for rule in rules if not any(rule.pattern in matches for matches in found.values())]
    if silent:
        problems = []
        for rule in silent:
            ending = os.path.splitext(rule.pattern)[1].lower()
            near = next((file for file in files if file.lower().endswith(ending)), files[0])
            got = f"none of {len(files)} files, e.g. {os.path.relpath(near, root)}"
            problems.append(DataProblem(root, f"files that match the {rule.kind} pattern {rule.pattern}", got, "correct the pattern"))
        return problems
    needed = [rule for rule in rules if rule.kind == "image"]
    lacking = {rule.pattern: [case for case in found if rule.pattern not in found[case]] for rule in needed}
    labels = [rule for rule in rules if rule.kind == "raters"]
    unlabelled = [case for case in found if not any(rule.pattern in found[case] for rule in labels)]
    if not set(found).difference(unlabelled, *lacking.values()):
        pairs = [(r.kind, next((c, m[r.pattern][0][1]) for c, m in found.items() if r.pattern in m)) for r in rules]
        told = {kind: f"the {kind} pattern finds case {case!r} in {os.path.relpath(file, root)}" for kind, (case, file) in pairs}
        fix = "write the patterns so that {case} is the same text in both"
        return [DataProblem(root, "cases that every pattern finds", "none: " + ", ".join(told.values()), fix)]
    problems = []
    for expected, cases in [
        *((f"an image by the pattern {pattern}", cases) for pattern, cases in lacking.items()),
        (f"at least one rater by the pattern {' or '.join(rule.pattern for rule in labels)}", unlabelled),
    ]:
        if len(cases) <= _NAMED:
            problems += [DataProblem(os.path.join(root, case), expected, "none", "add it, or remove the case") for case in cases]
        else:
            first = ", ".join(sorted(cases, key=natural_key)[:_NAMED])
            got = f"none for {len(cases)} of {len(found)} cases, e.g. {first}"
            problems.append(DataProblem(root, f"{expected} for each case", got, "correct the pattern, or add the files"))
    return problems


def _doubled(root: str, found: _Found, rules: Sequence[_Rule]) -> list[DataProblem]:
    """Return the problems of cases that have two files by one pattern."""
    problems = []
    fix = "narrow the pattern, or use {rater} in the raters' pattern; {slot} if its files are of no one person"
    for rule in rules:
        several: dict[str, str] = {}
        for case, matches in found.items():
            names = [rater for rater, _ in matches.get(rule.pattern, ())]
            if len(set(names)) < len(names):
                several[case] = ", ".join(sorted(file for _, file in matches[rule.pattern])[:3])
        expected = f"one file by the pattern {rule.pattern}"
        if len(several) <= _NAMED:
            problems += [DataProblem(os.path.join(root, case), expected, got, fix) for case, got in several.items()]
        else:
            case, got = next(iter(several.items()))
            got = f"several for {len(several)} of {len(found)} cases, e.g. {case}: {got}"
            problems.append(DataProblem(root, f"{expected} for each case", got, fix))
    return problems


def _rater_names(found: _Found, rules: Sequence[_Rule]) -> dict[tuple[str, str], str]:
    """Return the name of the rater of each pattern and text of its `{rater}`. Empty: the raters have no names."""
    labels = [rule.pattern for rule in rules if rule.kind == "raters"]
    if any("{slot}" in pattern for pattern in labels) or (len(labels) == 1 and "{rater}" not in labels[0]):
        return {}
    by_pattern = dict(zip(labels, names_by_difference(labels, "rater"), strict=True))
    spelling: dict[tuple[str, str], str] = {}
    owners: dict[str, set[str]] = {}
    files = [(rule, text) for matches in found.values() for rule in by_pattern for text, _ in matches.get(rule, ())]
    for rule, text in sorted(files):
        spelling.setdefault((rule, folded_name(text)), text)
        owners.setdefault(folded_name(text), set()).add(rule)
    names: dict[tuple[str, str], str] = {}
    for (rule, folded), text in spelling.items():
        name = f"rater {text}" if text.isdecimal() else text
        names[rule, folded] = f"{by_pattern[rule]} {name}".strip() if len(owners[folded]) > 1 or not text else name
    return names


def _item(
    case: str,
    matches: Mapping[str, Sequence[tuple[str, str]]],
    rules: Sequence[_Rule],
    names: Mapping[tuple[str, str], str],
    single: bool,
    task: str | None,
) -> dict[str, Any]:
    of_kind: dict[str, list[Sequence[tuple[str, str]]]] = {"image": [], "raters": [], "probability": []}
    for rule in rules:
        of_kind[rule.kind].append(matches.get(rule.pattern, ()))
    images = [pairs[0][1] for pairs in of_kind["image"]]
    item: dict[str, Any] = {"case": case, "task": task or "segmentation", "image": images[0] if single else images}
    in_order = [sorted(pairs, key=lambda pair: natural_key(pair[0])) for pairs in of_kind["raters"]]
    item["raters"] = [file for pairs in in_order for _, file in pairs]
    if names:
        patterns = [rule.pattern for rule in rules if rule.kind == "raters"]
        item["rater_names"] = [
            names[pattern, folded_name(text)] for pattern, pairs in zip(patterns, in_order, strict=True) for text, _ in pairs
        ]
    for pairs in of_kind["probability"]:
        if pairs:
            item["probability"] = pairs[0][1]
    return item


def _is_detached(file: str, files: set[str]) -> bool:
    """Return whether a file holds the voxels of a header file beside it."""
    stem, ending = os.path.splitext(file)
    stem = stem.removesuffix(".raw") if ending == ".gz" else stem
    return any(stem + header in files for header in _DETACHED.get(ending.lower(), ()))


def _pattern_regex(pattern: str, rater: bool) -> re.Pattern[str]:
    fields = ("case", "rater", "slot") if rater else ("case",)
    seen: set[str] = set()
    regex = ""
    for token in re.findall(r"\{[^}]*\}|\*\*/|\*\*|\*|\?|[^{*?]+|\{", unicodedata.normalize("NFC", pattern)):
        if token.startswith("{"):
            field = token[1:-1]
            if field not in fields:
                known = ", ".join("{" + f + "}" for f in fields)
                fix = "write {case} for the part of the name that names the case, and * for what may be anything"
                raise ValueError(error_sentence(f"pattern {pattern!r}", f"the fields {known} only", repr(token), fix))
            # Not greedy: the text after a field is literal, and a field would swallow it.
            regex += f"(?P={field})" if field in seen else rf"(?P<{field}>[^/]+?)"
            seen.add(field)
        else:
            regex += {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}.get(token) or re.escape(token)
    if "case" not in seen:
        fix = "write {case} for the part of the name that names the case"
        raise ValueError(error_sentence(f"pattern {pattern!r}", "the field {case}", "none", fix))
    return re.compile(regex, re.IGNORECASE | re.DOTALL)
