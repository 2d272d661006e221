"""The rows of a case's raters: the distances between their boundaries are MONAI's, bit for bit, from one search."""

import warnings
from pathlib import Path
from unittest.mock import Mock

import monai.metrics.utils
import numpy as np
import pytest
import torch
from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance

from monai_jdt.report.agreement_rows import AgreementCase, agreement_rows
from tests.nifti_files import save_nifti

SHAPES = {"3D": (14, 12, 10), "one slice": (14, 12, 1), "2D": (14, 12)}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_boundaries_are_searched_once_for_a_pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(len(shape))
    drawings = [(rng.random(shape) < 0.3).astype(np.uint8) for _ in range(3)]
    affine = np.diag([0.7, 1.3, 2.1, 1.0])
    files = tuple(save_nifti(tmp_path / f"{number}.nii.gz", drawing, affine) for number, drawing in enumerate(drawings))
    search = Mock(wraps=monai.metrics.utils.get_mask_edges)
    with monkeypatch.context() as watched, warnings.catch_warnings():
        watched.setattr(monai.metrics.utils, "get_mask_edges", search)
        # what MONAI has deprecated and passes itself is no concern of the reader
        warnings.simplefilter("error", FutureWarning)
        rows = agreement_rows(AgreementCase("a", "a", files, ("0", "1", "2"), {"mark": (1,)}))
    assert search.call_count == 3
    for row in rows:
        if row["score"] not in ("surface_distance_mm", "hausdorff95_mm"):
            continue
        a, b = (torch.from_numpy(drawings[int(row[key])].squeeze())[None, None] for key in ("rater", "other"))
        spacing = [0.7, 1.3, 2.1][: a.ndim - 2]
        if row["score"] == "hausdorff95_mm":
            expected = compute_hausdorff_distance(a, b, include_background=True, percentile=95, spacing=spacing)
        else:
            expected = compute_average_surface_distance(a, b, include_background=True, symmetric=True, spacing=spacing)
        assert row["value"] == float(expected)
    assert sum(row["score"] == "hausdorff95_mm" for row in rows) == 3
