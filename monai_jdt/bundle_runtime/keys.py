"""Find keys of a run that nothing reads, and references to keys that are absent."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from monai.bundle import ConfigParser
from monai.bundle.properties import InferProperties, TrainProperties
from monai.bundle.reference_resolver import ReferenceResolver
from pydantic import BaseModel

from monai_jdt.bundle_runtime.overlay_settings import overlay_of
from monai_jdt.bundle_runtime.workflow import StartedRun, file_of
from monai_jdt.validation import error_sentence

# keys that MONAI reads, besides the items that a run evaluates
_READ_BY_MONAI = ("imports", "save_execute_config", "tracking_uri", "experiment_name", "run_name", "is_not_rank0")

# what people note in a file about the file itself; it looks like a misspelt key
_ABOUT_THE_FILE = ("author", "authors", "changelog", "comment", "copyright", "description", "name", "note", "notes", "title", "version")


def key_problems(run: StartedRun, declared: type[BaseModel] | None = None) -> list[str]:
    """Return one line for each unknown key of a run.

    MONAI adds any key to the config without a message: `--epoch 3`, or `label_sourse: staple` in an overlay file, would train with
    the defaults. A key of the first level, or of a section (`train`, `validate`), is known if the settings declare it, if another
    item refers to it, or if MONAI reads it. A key that begins with `_` is a note.

    Args:
        run: the run.
        declared: its settings; None: a key is known by references alone.

    Returns:
        One line for each unknown key, with the key that was probably meant; then one for each reference to an absent key.
    """
    config = run.config
    # references in the files count: an override may have replaced the only expression that refers to a key
    used = set(_references(config)).union(*(_references(ConfigParser.load_config_file(path)) for path in run.files))
    unknown = list(_unknown_keys(run, used, declared))
    return [*unknown, *_dangling(run.parser, config, {line.partition(":")[0].lstrip("-") for line in unknown})]


def _unknown_keys(run: StartedRun, used: set[str], declared: type[BaseModel] | None) -> Iterator[str]:
    config = run.config
    settings = {} if declared is None else declared.model_fields
    properties: Mapping[str, Any] = TrainProperties if "train" in config else InferProperties
    of_monai = {str(entry["id"]) for entry in properties.values()}
    roots = {name.partition("::")[0] for name in (*used, *of_monai)}
    own = {name for name, entry in settings.items() if overlay_of(entry) is None}
    known = roots | own | set(_READ_BY_MONAI) | set(run.ids)
    # MONAI drops a key that is given as None, whatever its name
    dropped = [key for key, value in run.overrides.items() if value is None and key not in config and "#" not in key]
    for key in (*config, *dropped):
        if key not in known and not key.startswith("_"):
            yield _unknown_key(run, key, key, [name for name in (*settings, *config) if name in known], settings)
    for section, content in config.items():
        if not isinstance(content, Mapping) or "_target_" in content or not any(name.startswith(f"{section}::") for name in used):
            continue
        if section in used:
            continue  # the section is also referred to as a whole, so that any of its keys may be read
        for key in content:
            name = f"{section}::{key}"
            if key.startswith("_") or any(other == name or other.startswith(f"{name}::") for other in (*used, *of_monai)):
                continue
            yield _unknown_key(run, f"{section}#{key}", key, [other for other in content if other != key], {})


def _unknown_key(run: StartedRun, name: str, key: str, known: Sequence[str], settings: Mapping[str, Any]) -> str:
    given = any(other.replace("::", "#") == name for other in run.overrides)
    dashes = "--" if given else ""
    place = None if given else file_of(name.partition("#")[0], run.files)
    where = f"{dashes}{name}" if place is None else f"{name} ({place})"
    meant = _meant(key, [other for other in known if not other.startswith("_")], settings)
    parents = name[: len(name) - len(key)]
    overlay = overlay_of(settings[key]) if key in settings else None
    if overlay is not None:
        fix = f"lay configs/overlays/{overlay} over train.yaml, which has it"
    elif not given and name in _ABOUT_THE_FILE:
        fix = f"write it as a comment, or as _{name}"
    elif meant is not None:
        fix = f"did you mean {dashes}{parents}{meant}?"
    else:
        fix = "remove it" if given else f"remove it, or refer to it by @{name}"
    return error_sentence(where, "a key that the run reads", "an unknown one", fix)


def _meant(key: str, known: Sequence[str], settings: Mapping[str, Any]) -> str | None:
    """Return the known key that was probably meant, or None."""
    for name, entry in settings.items():
        if name in known and key.lower() in (entry.json_schema_extra or {}).get("also", ()):
            return name
    return next(iter(difflib.get_close_matches(key, known, n=1, cutoff=0.6)), None)


def _dangling(parser: ConfigParser, config: Mapping[str, Any], reported: set[str]) -> Iterator[str]:
    seen: set[str] = set()
    for name in _references(config):
        root = name.partition("::")[0]
        if root in seen or name in parser or not root:
            continue
        seen.add(root)
        missing, known = (root, list(config)) if root not in config else (name, list(_keys_in(config, root)))
        close = difflib.get_close_matches(missing, known, n=1)
        shown = missing.replace("::", "#")
        if close and close[0].replace("::", "#") in reported:
            continue  # the misspelt key itself is reported
        fix = f"did you mean @{close[0].replace('::', '#')}?" if close else f"give {shown} a value"
        yield error_sentence(shown, "a key that is there, since another one refers to it", "none", fix)


def _keys_in(config: Mapping[str, Any], root: str) -> Iterator[str]:
    content = config[root]
    if isinstance(content, Mapping):
        yield from (f"{root}::{key}" for key in content)


def _references(content: Any) -> Iterator[str]:
    """Yield the ids that a config refers to, in the form `a::b`."""
    if isinstance(content, str):
        yield from ReferenceResolver.match_refs_pattern(content)
        if content.startswith("%"):  # a macro: MONAI puts the content of that id, maybe of another file, in its place
            yield ConfigParser.split_path_id(content[1:])[1].replace("#", "::")
    elif isinstance(content, (Mapping, list)):
        for part in content.values() if isinstance(content, Mapping) else content:
            yield from _references(part)
