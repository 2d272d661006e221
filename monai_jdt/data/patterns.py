"""From a folder to a list of cases by patterns of file names: any layout that needs no code of its own."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Any

from monai_jdt.data.folders import natural_key, nothing_found, require_folder, walk_files
from monai_jdt.data.listing import CaseList
from monai_jdt.data.problems import DataProblem, DataProblemError


def pattern_datalist(
    root: str | os.PathLike[str],
    image: Sequence[str] | str,
    raters: str,
    *,
    probability: str | None = None,
    task: str | None = None,
) -> CaseList:
    """List the cases of any other folder, by patterns of the paths below it.

    In a pattern, `{case}` is a part of one folder or file name that names the case (twice in a pattern: the same both
    times), `{rater}` one that names the rater, `*` anything but a slash, `?` one such character, `**` any folders.
    A file that several patterns match belongs to the one with the most literal characters: with
    `LNDb-{case}.mhd` and `LNDb-{case}_rad{rater}.mhd`, `LNDb-0001_rad1.mhd` is a rater's. Nothing is case-folded, and
    hidden files are skipped.

    Args:
        root: the folder; paths in the answer begin with it.
        image: one pattern for each channel, or a single string for one file that holds all channels.
        raters: the pattern of the label files. Without `{rater}` a case has one rater.
        probability: the pattern of the true probability, where there is one.
        task: a name that every item carries under "task"; None: "segmentation".

    Returns:
        Items as those of :func:`brats_datalist`; "image" is a list if `image` is one. Raters are in natural order ("2"
        before "10"). The list's `found` tells what was found.

    Raises:
        ValueError: if a pattern lacks `{case}`, or has another field.
        DataProblemError: if the folder is missing, if nothing matches, or if a case lacks an image or a rater or has
            two files for one thing.

    Example:
        Two channels: `pattern_datalist(root, ["{case}/T1w.nii.gz", "{case}/T2w.nii.gz"], "{case}/seg_rater{rater}.nii.gz")`.
        LNDb: `pattern_datalist(root, "**/LNDb-{case}.mhd", "**/LNDb-{case}_rad{rater}.mhd")`.
        BIDS: `pattern_datalist(root, "sub-{case}/anat/sub-{case}_T1w.nii.gz",
        "derivatives/{rater}/sub-{case}/anat/sub-{case}_label-lesion_mask.nii.gz")`.
    """
    root = os.fspath(root)
    images = [image] if isinstance(image, str) else list(image)
    if not images:
        raise ValueError("image: expected at least one pattern, got an empty list")
    found: dict[str, dict[str, list[tuple[str, str]]]] = {}
    patterns = [*images, raters] + ([probability] if probability is not None else [])
    rules = [(pattern, _pattern_regex(pattern, rater=pattern is raters)) for pattern in patterns]
    require_folder(root, "files that match " + " or ".join(patterns))
    files = list(walk_files(root))
    for file in files:
        below = os.path.relpath(file, root).replace(os.sep, "/")
        hits = [(pattern, match) for pattern, regex in rules if (match := regex.fullmatch(below))]
        most = max((_literal_length(pattern) for pattern, _ in hits), default=0)
        for pattern, match in hits:
            if _literal_length(pattern) == most:
                rater = match.groupdict().get("rater", "")
                found.setdefault(match["case"], {}).setdefault(pattern, []).append((rater, file))
    if not found:
        fix = "name the folder that the patterns begin at, or begin them with **/"
        raise DataProblemError([nothing_found(root, "files that match " + " or ".join(patterns), files, fix)])
    items, problems = [], []
    for case in sorted(found, key=natural_key):
        matches, where = found[case], os.path.join(root, case)
        for pattern in [*images, raters]:
            if pattern not in matches:
                what = "at least one rater" if pattern == raters else "an image"
                problems.append(DataProblem(where, f"{what} by the pattern {pattern}", "none", "add it"))
        for pattern, pairs in matches.items():
            names = [rater for rater, _ in pairs]
            if len(set(names)) < len(names):
                got = ", ".join(sorted(file for _, file in pairs)[:3])
                fix = "narrow the pattern, or use {rater} in the raters' pattern"
                problems.append(DataProblem(where, f"one file by the pattern {pattern}", got, fix))
        if problems:
            continue
        paths = [matches[pattern][0][1] for pattern in images]
        drawn = sorted(matches[raters], key=lambda hit: natural_key(hit[0]))
        item: dict[str, Any] = {"case": case, "task": task or "segmentation", "image": paths[0] if isinstance(image, str) else paths}
        item["raters"] = [file for _, file in drawn]
        if probability is not None and probability in matches:
            item["probability"] = matches[probability][0][1]
        items.append(item)
    if problems:
        raise DataProblemError(problems)
    return CaseList(items, root)


def _literal_length(pattern: str) -> int:
    return len(re.sub(r"\{[^}]*\}|[*?]", "", pattern))


def _pattern_regex(pattern: str, rater: bool) -> re.Pattern[str]:
    fields = ("case", "rater") if rater else ("case",)
    seen: set[str] = set()
    regex = ""
    for token in re.findall(r"\{[^}]*\}|\*\*/|\*\*|\*|\?|[^{*?]+|\{", pattern):
        if token.startswith("{"):
            field = token[1:-1]
            if field not in fields:
                known = " and ".join("{" + f + "}" for f in fields)
                raise ValueError(f"pattern {pattern!r}: expected the fields {known} only, got {token!r}")
            regex += f"(?P={field})" if field in seen else rf"(?P<{field}>[^/]+?)"
            seen.add(field)
        else:
            regex += {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}.get(token) or re.escape(token)
    if "case" not in seen:
        raise ValueError(f"pattern {pattern!r}: expected the field {{case}}, got none; add it")
    return re.compile(regex)
