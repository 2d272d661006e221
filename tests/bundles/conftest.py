"""What tests of the bundles share: YAML is parsed once for all of them, which is a quarter of a tiny run's time."""

from __future__ import annotations

import copy
import os
from typing import Any

import pytest
from monai.bundle import ConfigParser

_parsed: dict[tuple[str, int, int], Any] = {}


@pytest.fixture(autouse=True)
def _files_are_parsed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    load = ConfigParser.load_config_file

    def load_once(filepath: Any, **options: Any) -> Any:
        if not os.path.isfile(filepath) or options:
            return load(filepath, **options)
        state = os.stat(filepath)
        key = (os.path.abspath(filepath), state.st_mtime_ns, state.st_size)
        if key not in _parsed:
            _parsed[key] = load(filepath)
        return copy.deepcopy(_parsed[key])

    monkeypatch.setattr(ConfigParser, "load_config_file", staticmethod(load_once))
