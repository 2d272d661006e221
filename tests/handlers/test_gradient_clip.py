from typing import Any

import pytest

from monai_jdt.handlers import GradientClip

# what it does to a step: tests/training/test_accumulated_steps.py


@pytest.mark.parametrize(("norm", "error"), [(0, ValueError), (-1.0, ValueError), ("12", TypeError)])
def test_a_norm_that_is_none_is_refused(norm: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="norm: expected"):
        GradientClip(norm)
