"""Which keys of a config count as used."""

from __future__ import annotations

from monai_jdt.bundle_runtime.keys import _references


def test_references_and_macros_are_uses() -> None:
    """MONAI has put the content of a macro in its place by the time of the check; the file still has it."""
    config = {"epochs": "%quick", "net": [{"width": "%other.yaml::wide#few"}], "rate": "$@base * 2", "share": "50%"}
    assert list(_references(config)) == ["quick", "wide::few", "base"]
