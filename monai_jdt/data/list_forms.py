"""The forms in which other tools write data lists: the Decathlon's, nnU-Net's, Auto3DSeg's, JSON lines, lists of another machine."""

from __future__ import annotations

import glob
import json
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

from monai_jdt.data.csv_lists import TABLE_ENDINGS, TableRow, table_sections
from monai_jdt.data.files.voxel_blocks import GZIP_MAGIC
from monai_jdt.data.layouts.folders import VOLUME_SUFFIX, natural_key
from monai_jdt.data.layouts.listing import SkippedPath
from monai_jdt.data.problems import DataProblem, DataProblemError

_FIX = "write it again by `python -m monai_jdt datalist`"

# The names that tools give to the sections. The first of each is ours.
VALIDATION_NAMES = ("validation", "valid", "val")
_SECTION_NAMES = (("training", "train"), VALIDATION_NAMES, ("testing", "test"))

_EVERY_SECTION = {name for names in _SECTION_NAMES for name in names}

_DRIVE = re.compile(r"[A-Za-z]:[\\/]|\\\\")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


class _PathError(ValueError):
    """A path that cannot be one of this machine, with the fix."""

    def __init__(self, got: str, fix: str) -> None:
        super().__init__(got)
        self.got, self.fix = got, fix


def list_sections(path: str) -> dict[str, list[Any]]:
    """Read a file's lists of cases.

    The file holds a mapping from section to list, or a list alone, or one item per line (JSON lines). The latter two are the section
    "training". A section may be a mapping from a case's name to its item.

    Args:
        path: a JSON file in UTF-8 or UTF-16, with or without a byte order mark, or a table: see
            :func:`monai_jdt.data.csv_lists.table_sections`.

    Returns:
        Section to items, which are dictionaries or paths, as the file has them.

    Raises:
        DataProblemError: if the file is no JSON, or holds no list of cases.
    """
    if path.lower().endswith(TABLE_ENDINGS):
        return table_sections(path)
    content = _content(path)
    if isinstance(content, list) and any(_is_item(entry) for entry in content):
        content = {"training": content}
    if not isinstance(content, dict):
        raise _problem(path, "an object with a list of cases in it", f"a {type(content).__name__}", _FIX)
    sections: dict[str, list[Any]] = {}
    for name, value in content.items():
        if isinstance(value, dict) and value and all(_is_item(entry, "images") for entry in value.values()):
            value = [_named(case, entry) for case, entry in value.items()]
        if isinstance(value, list) and (value == [] or any(_is_item(entry) for entry in value) or _is_section(name, value)):
            sections["training" if name == "dataset" and "training" not in content else name] = value
    if not any(sections.values()) and "channel_names" in content and "file_ending" in content:
        raise _nnunet_problem(path, content)
    if content and not sections:
        got = "the keys " + ", ".join(map(str, list(content)[:8]))
        raise _problem(path, 'a list of cases, {"training": [{"image": ..., "raters": [...]}]}', got, _FIX)
    return sections


def chosen_section(path: str, sections: Mapping[str, Sequence[Any]], section: str) -> str:
    """Return the name under which a file has a section: "training" may be "train".

    Args:
        path: the file, for the error.
        sections: what :func:`list_sections` gives.
        section: the section that is asked for.

    Raises:
        DataProblemError: if it is not there.
    """
    for names in _SECTION_NAMES:
        if section in names and section not in sections:
            section = next((name for name in names if name in sections), section)
    if section not in sections:
        got = "the sections " + ", ".join(sections) if sections else "none"
        raise _problem(path, f"the section {section!r}, a list of cases", got, "name one that is there")
    return section


@dataclass
class ItemReader:
    """Turns the entries of a list into items, and collects what is wrong and what is left out.

    Args:
        path: the list's file. Relative paths begin at its folder.
        path_keys: which keys hold paths.
        keep_names: whether an item whose raters are an object keeps the names of the object under "rater_names".

    Attributes:
        problems: one for each entry that cannot be used.
        skipped: missing raters (null).
    """

    path: str
    path_keys: Sequence[str]
    keep_names: bool = False
    problems: list[DataProblem] = field(default_factory=list)
    skipped: list[SkippedPath] = field(default_factory=list)

    def read(self, sections: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
        """Read some sections, one after the other.

        Args:
            sections: name, for the problems, to dictionaries or paths of images.

        Returns:
            The items that can be used. Each has "case"; "image" is a path or a list of paths; "raters", where there are any, a
            list. A file under "label" is the one rater of an item without "raters". Items without a case are named after what
            differs in all these sections: the images `train/001.nii` and `val/001.nii` are two cases.
        """
        items = []
        for section, entries in sections.items():
            for number, entry in enumerate(entries):
                where = f"{self.path}: line {entry.line}" if isinstance(entry, TableRow) else f"{self.path}: {section}[{number}]"
                if isinstance(entry, dict) and entry.get("case") is not None:
                    where += f" (case {entry['case']})"
                try:
                    items.append(self._item(where, entry))
                except DataProblemError as error:
                    self.problems += error.problems
        return _with_cases(items)

    def _item(self, where: str, entry: Any) -> dict[str, Any]:
        if isinstance(entry, str):
            entry = {"image": entry}
        if not isinstance(entry, dict) or "image" not in entry:
            got = ", ".join(map(str, entry)) if isinstance(entry, dict) else json.dumps(entry)[:60]
            like = [key for key in entry if str(key).lower().startswith(("im", "vol"))] if isinstance(entry, dict) else []
            raise _problem(where, "the key 'image'", got, f"rename {like[0]!r} to 'image'" if like else "add it")
        item = {key: self._paths(f"{where}: {key}", value) if key in self.path_keys else value for key, value in entry.items()}
        for key in ("case", "dataset", "task"):
            if isinstance(item.get(key), (list, dict)):
                raise _problem(f"{where}: {key}", "text or a number", json.dumps(item[key])[:60], "write it as text")
        images = _flat_paths(item["image"])
        if not images:
            got = json.dumps(entry["image"])
            raise _problem(f"{where}: image", "a path, or one path per channel", got, "add it, or remove the case")
        item["image"] = _channel_files(images[0]) if isinstance(entry["image"], str) else images
        for key in ("label", "probability", "consensus", "mask"):
            if key in item and not _flat_paths(item[key]):
                del item[key]
        self._read_raters(where, item)
        return item

    def _read_raters(self, where: str, item: dict[str, Any]) -> None:
        raters = item.get("raters")
        if raters is None and "label" in item:
            labels = _flat_paths(item["label"])
            if len(labels) > 1:
                fix = "rename 'label' to 'raters' if each is one rater's drawing; merge them into one label map if each is one class"
                raise _problem(f"{where}: label", "one label file", f"{len(labels)} files", fix)
            raters = labels
        if raters is None:
            item.pop("raters", None)
            return
        if isinstance(raters, dict) and self.keep_names:
            item["rater_names"] = list(raters)
        listed = list(raters.values()) if isinstance(raters, dict) else [raters] if isinstance(raters, str) else raters
        for key in ("rater_names", "rater_weights"):
            own = item.get(key)
            if own is None:
                continue
            if not isinstance(own, list) or len(own) != len(listed):
                got = str(len(own)) if isinstance(own, list) else json.dumps(own)[:60]
                fix = "write one for each, those that are null included"
                raise _problem(f"{where}: {key}", f"a list of {len(listed)}, one for each of the raters", got, fix)
            item[key] = [value for value, rater in zip(own, listed, strict=True) if rater is not None]
        for number, rater in enumerate(listed):
            if rater is None:
                self.skipped.append(SkippedPath(f"{where}: raters[{number}]", "null, a rater who is missing"))
        # A list of one file means that file. Longer lists are instances, as KiTS21's.
        alone = [rater[0] if isinstance(rater, list) and len(rater) == 1 and isinstance(rater[0], str) else rater for rater in listed]
        item["raters"] = [rater for rater in alone if rater is not None]

    def _paths(self, where: str, value: Any) -> Any:
        if value is None or value == "":
            return None
        if isinstance(value, str):
            try:
                return _local_path(os.path.dirname(self.path), value)
            except _PathError as error:
                raise _problem(where, "a path on this machine", error.got, error.fix) from error
        if isinstance(value, list):
            return [self._paths(f"{where}[{number}]", part) for number, part in enumerate(value)]
        if isinstance(value, dict) and where.endswith(": raters"):
            return {name: self._paths(f"{where}[{name!r}]", part) for name, part in value.items()}
        raise _problem(where, "a path, or a list of paths", json.dumps(value)[:60], "write the path as text")


def _content(path: str) -> Any:
    with open(path, "rb") as file:
        raw = file.read()
    if raw.startswith(GZIP_MAGIC) or (b"\0" in raw[:512] and raw[:2] not in (b"\xff\xfe", b"\xfe\xff")):
        raise _problem(path, "a datalist JSON", "a file that is no text", "name the list, not one of its files")
    try:
        text = raw.decode("utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise _problem(path, "a datalist JSON", f"no text in UTF-8 ({error.reason})", "save it as UTF-8") from error
    try:
        return json.loads(text, object_pairs_hook=_once)
    except ValueError as error:
        try:
            lines = [json.loads(line, object_pairs_hook=_once) for line in text.splitlines() if line.strip()]
        except ValueError:
            lines = []
        if lines and all(_is_item(line) for line in lines):
            return lines
        raise _problem(path, "a datalist JSON", f"no JSON ({' '.join(str(error).split())})", _FIX) from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse a key that an object has twice: JSON readers would drop the first of two sections without a word."""
    keys = [key for key, _ in pairs]
    for key in keys:
        if keys.count(key) > 1:
            raise ValueError(f"the key {key!r} twice in one object")
    return dict(pairs)


def _is_item(entry: Any, *other_keys: str) -> bool:
    if isinstance(entry, dict):
        return any(key in entry for key in ("image", *other_keys))
    return isinstance(entry, str) and not other_keys and "." in os.path.basename(entry)


def _is_section(name: str, entries: Sequence[Any]) -> bool:
    """Return whether a list is meant as cases: an item that lacks "image" is an error, not a reason to leave out the section."""
    return name in _EVERY_SECTION and any(isinstance(entry, dict) for entry in entries)


def _named(case: str, entry: dict[str, Any]) -> dict[str, Any]:
    return {"case": case, **{"image" if key == "images" else key: value for key, value in entry.items()}}


def _flat_paths(value: Any) -> list[str]:
    if isinstance(value, list):
        return [path for part in value for path in _flat_paths(part)]
    return [] if value is None else [value]


def _local_path(folder: str, file: str) -> str:
    """Return a path as this machine has it, or raise _PathError if it cannot be one of this machine."""
    if _SCHEME.match(file):
        url = urlsplit(file)
        if url.scheme.lower() != "file" or url.netloc not in ("", "localhost"):
            raise _PathError(f"an address, {file}", "download the file, and list its path")
        file = unquote(url.path)
    file = os.path.expanduser(file)
    here = os.path.normpath(os.path.join(folder, file))
    # A backslash is a legal character of a name here: it is a separator only if no such file is there.
    if os.sep == "\\" or ("\\" not in file and not _DRIVE.match(file)) or os.path.lexists(here):
        return here
    if _DRIVE.match(file):
        raise _PathError(f"a path of a Windows machine, {file}", "write paths relative to the list's folder")
    return os.path.normpath(os.path.join(folder, file.replace("\\", "/")))


def _channel_files(file: str) -> str | list[str]:
    """Return the files of nnU-Net's channels, `case_0000.nii.gz`, ..., for a path `case.nii.gz` at which there is no file."""
    ending = VOLUME_SUFFIX.search(file)
    if ending is None or os.path.lexists(file):
        return file
    channels = sorted(glob.glob(glob.escape(file[: ending.start()]) + "_[0-9][0-9][0-9][0-9]" + glob.escape(ending[0])))
    return channels if len(channels) > 1 else channels[0] if channels else file


def _with_cases(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Name the cases without a name by what differs in their images' paths."""
    nameless = [item for item in items if item.get("case") in (None, "")]
    images = [_flat_paths(item["image"])[0] for item in nameless]
    # nnU-Net's number of the first channel is no part of the name.
    stems = [re.sub(r"_0000\Z", "", VOLUME_SUFFIX.sub("", os.path.basename(image))) for image in images]
    names = stems
    if len(set(stems)) < len(stems):
        paths = [[*os.path.dirname(image).split(os.sep), stem] for image, stem in zip(images, stems, strict=True)]
        shared = [len(set(level)) == 1 for level in zip(*paths, strict=False)]
        names = ["_".join(part for level, part in enumerate(path) if not (level < len(shared) and shared[level])) for path in paths]
        names = [name or stem for name, stem in zip(names, stems, strict=True)]
    for item, name in zip(nameless, names, strict=True):
        item.pop("case", None)
        item["case"] = name
    return [{"case": item["case"], **item} for item in items]


def _nnunet_problem(path: str, content: Mapping[str, Any]) -> DataProblemError:
    names = content["channel_names"]
    channels = sorted(names, key=natural_key) if isinstance(names, dict) else range(len(names))
    ending = content["file_ending"]
    words = [word for number in channels for word in ("--image", f"imagesTr/{{case}}_{int(number):04d}{ending}")]
    folder = os.path.dirname(path) or "."
    words += ["--raters", f"labelsTr/{{case}}{ending}", "--write", os.path.join(folder, "list.json")]
    command = "python -m monai_jdt datalist pattern " + shlex.join([folder, *words])
    return _problem(path, "a list of cases", "nnU-Net's description, which has none", command)


def _problem(where: str, expected: str, got: str, fix: str) -> DataProblemError:
    return DataProblemError([DataProblem(where, expected, got, fix)])
