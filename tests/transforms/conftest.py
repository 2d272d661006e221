"""Three raters, as arrays and as files."""

from pathlib import Path

import numpy as np
import pytest

from tests.transforms.rater_files import write


@pytest.fixture
def labels() -> np.ndarray:
    return np.random.default_rng(0).choice([0, 1, 2, 4], size=(3, 5, 6, 4))


@pytest.fixture
def paths(tmp_path: Path, labels: np.ndarray) -> list[str]:
    return [write(tmp_path / f"rater{i}.nii.gz", values) for i, values in enumerate(labels)]
