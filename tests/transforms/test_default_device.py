"""A transform, and the fusion below it, is called under `torch.set_default_device`: it works where its tensors are."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from monai_jdt import transforms
from tests.nifti_files import save_nifti
from tests.transforms.stacks import draw, soft

REGIONS = [[1, 4], [1, 2, 4], [4]]
METHODS = ("average", "majority", "dice_weighted", "staple", "multilabel_staple", "intersection", "union", "random")


VOTES = [draw(number, raters=number + 2) for number in range(3)]
LABEL = soft(0)


def fused(method: str, raters: int = 3, **options: Any) -> Any:
    return transforms.FuseRaters(REGIONS, method, **options).with_estimates(VOTES[raters - 2])


def collated() -> dict[str, Any]:
    fuse = transforms.FuseRatersd("votes", REGIONS, "multilabel_staple", "label", estimates_keys="estimates")
    # MONAI's own collate allocates on the default device
    return transforms.rater_collate([fuse({"votes": votes}) for votes in VOTES], collate=list, estimates_keys="estimates")


def sampled() -> torch.Tensor:
    transform = transforms.RandSampleRater([1, 0, 2])
    transform.set_random_state(0)
    return transform(VOTES[1])


CALLS: dict[str, Callable[[], Any]] = {
    **{method: partial(fused, method) for method in METHODS},
    "average of a missing rater": lambda: fused("average", rater_weights=[1, 0, 1]),
    "weighted": lambda: fused("weighted", rater_weights=[1, 3, 0]),
    "DecideMask": lambda: transforms.DecideMask("expected_dice", softmax=True)(LABEL[:, :2, :2, :2]),
    "DrawSamples": lambda: transforms.DrawSamples(3)(LABEL),
    "LabelRegions": lambda: transforms.LabelRegions(REGIONS)(VOTES[0][:1]),
    "PadRaters": lambda: transforms.PadRaters(5)(VOTES[0]),
    "PadRaters with weights": lambda: transforms.PadRaters(5)(VOTES[1], [1, 0, 1]),
    "RandSampleRater": sampled,
    "RestoreSoftLabel": lambda: transforms.RestoreSoftLabel()(LABEL * 0.9),
    "RestoreVotes": lambda: transforms.RestoreVotes()(VOTES[0].float()),
    "SmoothLabel": lambda: transforms.SmoothLabel("gaussian", sigma=1.0)(LABEL),
    "rater_collate": collated,
}


def tensors_in(value: Any) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value, value.affine] if isinstance(value, MetaTensor) else [value]
    if isinstance(value, dict):
        return [tensor for part in value.values() for tensor in tensors_in(part)]
    if isinstance(value, list | tuple):
        return [tensor for part in value for tensor in tensors_in(part)]
    return tensors_in(vars(value)) if hasattr(value, "__dict__") else []


def assert_same_under_a_default_device(call: Callable[[], Any]) -> None:
    expected = tensors_in(call())
    with torch.device("meta"):
        inside = tensors_in(call())
    assert len(expected) == len(inside) > 0
    for value, other in zip(expected, inside, strict=True):
        torch.testing.assert_close(other, value, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("name", CALLS)
def test_a_default_device_changes_no_bit(name: str) -> None:
    assert_same_under_a_default_device(CALLS[name])


def test_a_default_device_changes_no_bit_of_what_is_loaded(tmp_path: Path) -> None:
    paths = [save_nifti(tmp_path / f"{number}.nii", np.full((3, 4, 2), number, np.uint8)) for number in range(2)]
    assert_same_under_a_default_device(lambda: transforms.LoadRaters()(paths))
