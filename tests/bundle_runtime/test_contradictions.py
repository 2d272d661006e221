"""Settings that are wrong together only."""

from __future__ import annotations

import pytest

from monai_jdt.bundle_runtime.contradictions import contradictions


@pytest.mark.parametrize(("ignored", "owner"), [(0, "label_values"), (1, "the classes that votes become"), (255, "label_values")])
def test_with_a_softmax_the_ignored_value_is_no_class_either(ignored: int, owner: str) -> None:
    """Votes of 0 and 255 become classes 0 and 1: with 1 ignored, nothing but background would be trained."""
    masks = {"regions": {"cell": [255]}, "label_values": [0, 255], "loss#votes": True, "loss#softmax": True}
    (line,) = contradictions({**masks, "loss#ignore_index": ignored})
    assert line.startswith(f"loss#ignore_index: expected a value that is no label, got {ignored}, which is one of {owner}.")
    assert line.endswith("Fix: --loss#ignore_index 254.")
    assert contradictions({**masks, "loss#ignore_index": 254}) == []
