"""Tests that need a later version than the oldest that setup.cfg allows."""

from __future__ import annotations

import monai
import pytest
from packaging.version import Version


def needs_monai(version: str, what: str) -> pytest.MarkDecorator:
    """Skip a test with an older MONAI.

    Args:
        version: the first that has it.
        what: what the test compares with, and the older ones do not have.
    """
    return pytest.mark.skipif(Version(monai.__version__) < Version(version), reason=f"MONAI {version} has {what}")
