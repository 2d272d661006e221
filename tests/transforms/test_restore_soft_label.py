"""Soft labels that are valid again after any spatial transform."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.transforms import (
    Compose,
    Flipd,
    Orientationd,
    Rand2DElasticd,
    Rand3DElasticd,
    RandAffined,
    RandAxisFlipd,
    RandGridDistortiond,
    Randomizable,
    RandRotated,
    RandZoomd,
    Resized,
    ResizeWithPadOrCropd,
    Spacingd,
    Transform,
)

from monai_jdt.transforms import (
    RestoreSoftLabel,
    RestoreSoftLabeld,
)
from tests.transforms.stacks import soft

PADDING = st.sampled_from(["zeros", "border", "reflection"])


@st.composite
def spatial(draw: st.DrawFn) -> Transform:
    """One of MONAI's spatial transforms with drawn arguments."""
    mode, padding = draw(st.sampled_from(["bilinear", "nearest"])), draw(PADDING)
    angle = draw(st.floats(0.05, 1.5))
    kind = draw(st.sampled_from(["affine", "rotate", "spacing", "zoom", "elastic", "distortion", "resize", "spline", "crop", "flip"]))
    spline: Any = 3  # MONAI takes it, its annotation does not name it
    made: dict[str, Callable[[], Transform]] = {
        "affine": lambda: RandAffined(
            "label", prob=1, rotate_range=[angle] * 3, translate_range=[3] * 3, scale_range=[0.4] * 3, mode=mode, padding_mode=padding
        ),
        "rotate": lambda: RandRotated("label", (angle, angle), (angle, angle), (angle, angle), prob=1, mode=mode, padding_mode=padding),
        "spacing": lambda: Spacingd("label", [draw(st.floats(1.0, 6.0)) for _ in range(3)], mode=mode, padding_mode=padding),
        "zoom": lambda: RandZoomd(
            "label",
            prob=1,
            min_zoom=0.5,
            max_zoom=1.6,
            mode=draw(st.sampled_from(["trilinear", "nearest", "area"])),
            padding_mode="constant",
        ),
        "elastic": lambda: Rand3DElasticd("label", (1, 2), (20, 60), prob=1, mode=mode, padding_mode=padding),
        "distortion": lambda: RandGridDistortiond("label", prob=1, distort_limit=0.3, mode=mode, padding_mode=padding),
        "resize": lambda: Resized("label", (9, 4, 6), mode=draw(st.sampled_from(["trilinear", "area", "nearest"]))),
        "spline": lambda: Spacingd("label", (1.3, 2.9, 5.0), mode=spline, padding_mode=draw(st.sampled_from(["constant", "nearest"]))),
        "crop": lambda: ResizeWithPadOrCropd("label", (9, 4, 5)),
        "flip": lambda: Compose([RandAxisFlipd("label", prob=1), Flipd("label", 0), Orientationd("label", "PLI")]),
    }
    return made[kind]()


@given(transform=spatial(), seed=st.integers(0, 10_000), softmax=st.booleans())
def test_after_any_spatial_transform_a_label_is_a_label(transform: Transform, seed: int, softmax: bool) -> None:
    if isinstance(transform, Randomizable):
        transform.set_random_state(seed=seed)
    moved = transform({"label": soft(seed)})
    before = moved["label"].clone()
    out = RestoreSoftLabeld("label", softmax=softmax)(moved)["label"]
    assert torch.equal(moved["label"], before)
    assert float(out.min()) >= 0
    assert float(out.max()) <= 1
    if softmax:
        np.testing.assert_allclose(out.sum(0).numpy(), 1, atol=1e-5)
        np.testing.assert_allclose(out.numpy(), RestoreSoftLabel()(out).numpy(), atol=1e-6)  # once is enough
    assert torch.equal(out.affine, moved["label"].affine)
    assert out.applied_operations == moved["label"].applied_operations


@given(seed=st.integers(0, 1000))
@settings(max_examples=10)
def test_in_the_plane_too(seed: int) -> None:
    moved = Rand2DElasticd("label", (3, 3), (1, 2), prob=1, padding_mode="zeros").set_random_state(seed=seed)(
        {"label": soft(seed, 2, (9, 8)).as_tensor()}
    )
    out = RestoreSoftLabeld("label")(moved)["label"]
    np.testing.assert_allclose(out.sum(0).numpy(), 1, atol=1e-5)


def test_a_right_label_is_left_alone_and_the_operations_can_be_undone() -> None:
    label = soft(3)
    np.testing.assert_allclose(RestoreSoftLabel()(label).numpy(), label.numpy(), atol=1e-6)
    flip = Flipd("label", 0)
    out = RestoreSoftLabeld("label")(flip({"label": label}))
    np.testing.assert_allclose(flip.inverse(out)["label"].numpy(), label.numpy(), atol=1e-6)


def test_what_came_from_outside() -> None:
    label = soft(0)
    padded = ResizeWithPadOrCropd("label", (11, 6, 5))({"label": label})
    out = RestoreSoftLabeld("label", mask_keys="mask", background=2)(padded)
    assert out["mask"].dtype == torch.bool
    assert out["mask"].shape == (1, 11, 6, 5)
    assert out["mask"][0, 2:-2].all()
    assert not out["mask"][0, :2].any()
    assert out["label"][2, 0].min() == 1
    nan = RestoreSoftLabel()(torch.tensor([[float("nan")], [0.25]]))
    assert nan.tolist() == [[0.75], [0.25]]
    clamped = RestoreSoftLabel(softmax=False)(torch.tensor([[-0.5, 1.5, 0.25]]))
    assert clamped.tolist() == [[0, 1, 0.25]]
