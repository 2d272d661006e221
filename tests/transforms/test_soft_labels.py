import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor
from monai.transforms import (
    Compose,
    Flipd,
    Orientationd,
    Rand2DElasticd,
    Rand3DElasticd,
    RandAffined,
    RandAxisFlipd,
    RandGridDistortiond,
    RandRotated,
    RandZoomd,
    Resized,
    ResizeWithPadOrCropd,
    Spacingd,
)

from monai_jdt.transforms import (
    FuseRaters,
    LabelRegions,
    LabelRegionsd,
    RestoreSoftLabel,
    RestoreSoftLabeld,
    RestoreVotes,
    RestoreVotesd,
    SmoothLabel,
    SmoothLabeld,
    nearest_only,
)

AFFINE = torch.diag(torch.tensor([2.0, 3.0, 4.0, 1.0], dtype=torch.float64))


def soft(seed, channels=3, shape=(7, 6, 5)):
    values = np.random.default_rng(seed).dirichlet([0.3] * channels, size=shape)
    return MetaTensor(torch.from_numpy(np.moveaxis(values, -1, 0).astype(np.float32)), affine=AFFINE)


def loop_boundary(label, k, epsilon, softmax):
    """The band, one voxel at a time."""
    out = label.copy()
    channels, space = label.shape[0], label.shape[1:]
    for voxel in np.ndindex(*space):
        window = tuple(slice(max(0, i - k), i + k + 1) for i in voxel)
        for c in range(channels):
            if softmax:
                border = len(np.unique(label[(slice(None), *window)].argmax(0))) > 1
                target = 1 / channels
            else:
                border = len(np.unique(label[(c, *window)] > 0.5)) > 1
                target = 0.5
            if border:
                out[(c, *voxel)] = (1 - epsilon) * label[(c, *voxel)] + epsilon * target
    return out


@pytest.mark.parametrize("softmax", [True, False])
@pytest.mark.parametrize(("shape", "k"), [((9,), 1), ((9, 8), 1), ((9, 8), 3), ((7, 6, 8), 2), ((3, 2, 3), 3)])
def test_boundary_band_is_the_loops(shape, k, softmax):
    corner = np.zeros(shape, dtype=int)
    corner[tuple(slice(0, (n + 1) // 2) for n in shape)] = 1
    corner.flat[-1] = 2
    label = np.moveaxis(np.eye(3, dtype=np.float32)[corner], -1, 0).copy()
    got = SmoothLabel("boundary", epsilon=0.5, k=k, softmax=softmax)(torch.from_numpy(label))
    np.testing.assert_allclose(got.numpy(), loop_boundary(label, k, 0.5, softmax), atol=1e-6)
    if softmax:
        np.testing.assert_allclose(got.sum(0).numpy(), 1, atol=1e-6)


def test_without_a_border_nothing_is_smoothed():
    label = torch.zeros(2, 5, 5)
    label[0] = 1
    assert torch.equal(SmoothLabel("boundary", epsilon=1.0)(label).as_tensor(), label)


@pytest.mark.parametrize("softmax", [True, False])
def test_uniform_is_the_formula(softmax):
    label = soft(0)
    got = SmoothLabeld("label", epsilon=0.3, softmax=softmax)({"label": label})["label"]
    np.testing.assert_allclose(got.numpy(), 0.7 * label.numpy() + 0.3 / (3 if softmax else 2), atol=1e-6)
    assert torch.equal(got.affine, AFFINE)
    assert torch.equal(SmoothLabel(epsilon=0.0)(label).as_tensor(), label.as_tensor())


@pytest.mark.parametrize("shape", [(30,), (11, 9), (7, 6, 5)])
def test_gaussian_keeps_sums_and_constants(shape):
    blur = SmoothLabel("gaussian", sigma=1.5)
    got = blur(soft(1, 3, shape))
    np.testing.assert_allclose(got.sum(0).numpy(), 1, atol=1e-5)
    assert got.min() >= 0
    constant = torch.full((2, *shape), 0.5)
    np.testing.assert_allclose(blur(constant).numpy(), 0.5, atol=1e-6)
    # in the middle of a long line, a step becomes the Gaussian's cdf (of voxels as intervals: erf at the half voxels)
    step = torch.zeros(1, 41)
    step[0, 21:] = 1
    edge = SmoothLabel("gaussian", sigma=3.0, softmax=False)(step)[0]
    cdf = torch.special.ndtr(torch.tensor([-0.5, 0.5]) / 3.0)
    np.testing.assert_allclose(edge[20:22].numpy(), cdf.numpy(), atol=5e-3)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"mode": "box"}, "mode: expected one of"),
        ({"epsilon": 1.5}, "epsilon: expected a number in"),
        ({"k": 0}, "k: expected a whole number"),
        ({"k": 1.5}, "k: expected a whole number"),
        ({"sigma": 0.0}, "sigma: expected a positive"),
    ],
)
def test_wrong_arguments(options, words):
    with pytest.raises(ValueError, match=words):
        SmoothLabel(**options)


def test_wrong_labels():
    for transform in (SmoothLabel(), RestoreSoftLabel()):
        with pytest.raises(ValueError, match="at least 2 channels"):
            transform(torch.zeros(1, 4, 4))
    with pytest.raises(ValueError, match="1 to 3 space dimensions"):
        SmoothLabel()(torch.zeros(2))
    with pytest.raises(ValueError, match="background: expected one of 2 channels"):
        RestoreSoftLabel(background=2)(torch.zeros(2, 4))
    with pytest.raises(ValueError, match="mask_keys"):
        RestoreSoftLabeld("label", softmax=False, mask_keys="mask")


PADDING = st.sampled_from(["zeros", "border", "reflection"])


@st.composite
def spatial(draw):
    """One of MONAI's spatial transforms with drawn arguments."""
    mode, padding = draw(st.sampled_from(["bilinear", "nearest"])), draw(PADDING)
    angle = draw(st.floats(0.05, 1.5))
    kind = draw(st.sampled_from(["affine", "rotate", "spacing", "zoom", "elastic", "distortion", "resize", "spline", "crop", "flip"]))
    return {
        "affine": lambda: RandAffined(
            "label", prob=1, rotate_range=[angle] * 3, translate_range=[3] * 3, scale_range=[0.4] * 3, mode=mode, padding_mode=padding
        ),
        "rotate": lambda: RandRotated("label", *[(angle, angle)] * 3, prob=1, mode=mode, padding_mode=padding),
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
        "spline": lambda: Spacingd("label", (1.3, 2.9, 5.0), mode=3, padding_mode=draw(st.sampled_from(["constant", "nearest"]))),
        "crop": lambda: ResizeWithPadOrCropd("label", (9, 4, 5)),
        "flip": lambda: Compose([RandAxisFlipd("label", prob=1), Flipd("label", 0), Orientationd("label", "PLI")]),
    }[kind]()


@given(transform=spatial(), seed=st.integers(0, 10_000), softmax=st.booleans())
@settings(max_examples=80)
def test_after_any_spatial_transform_a_label_is_a_label(transform, seed, softmax):
    if hasattr(transform, "set_random_state"):
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
def test_in_the_plane_too(seed):
    moved = Rand2DElasticd("label", (3, 3), (1, 2), prob=1, padding_mode="zeros").set_random_state(seed=seed)(
        {"label": soft(seed, 2, (9, 8)).as_tensor()}
    )
    out = RestoreSoftLabeld("label")(moved)["label"]
    np.testing.assert_allclose(out.sum(0).numpy(), 1, atol=1e-5)


def test_a_right_label_is_left_alone_and_the_operations_can_be_undone():
    label = soft(3)
    np.testing.assert_allclose(RestoreSoftLabel()(label).numpy(), label.numpy(), atol=1e-6)
    flip = Flipd("label", 0)
    out = RestoreSoftLabeld("label")(flip({"label": label}))
    np.testing.assert_allclose(flip.inverse(out)["label"].numpy(), label.numpy(), atol=1e-6)


def test_what_came_from_outside():
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


def test_votes_are_resampled_by_nearest_only():
    good = Spacingd(["image", "raters"], 2.0, mode=["bilinear", "nearest"])
    assert nearest_only(good, "raters") is good
    chain = Compose([good, RandAffined(["image", "raters"], mode=("bilinear", "bilinear"))])
    with pytest.raises(ValueError, match="RandAffined: expected mode 'nearest' for votes under 'raters', got 'bilinear'"):
        nearest_only(chain, ["raters"])
    for wrong in (RandZoomd("raters", mode="area"), Spacingd("raters", 2.0, mode=3), RandRotated("raters", mode="bilinear")):
        with pytest.raises(ValueError, match="expected mode 'nearest'"):
            nearest_only(wrong, "raters")
    for right in (
        Flipd("raters", 0),
        Spacingd("raters", 2.0, mode=0),
        RandRotated("raters", mode="nearest"),
        RandZoomd("image", mode="area"),
    ):
        assert nearest_only(right, "raters") is right


def test_votes_are_whole_again_after_resampling():
    votes = MetaTensor(torch.from_numpy(np.random.default_rng(0).choice([0, 1, 4], size=(3, 7, 6, 5)).astype(np.uint8)), affine=AFFINE)
    moved = Spacingd("raters", 1.5, mode="nearest")({"raters": votes})
    whole = RestoreVotesd("raters")(moved)["raters"]
    assert whole.dtype == torch.uint8
    assert whole.unique().tolist() == [0, 1, 4]
    assert FuseRaters([1, 4])(whole).shape == (2, *whole.shape[1:])
    with pytest.raises(ValueError, match=r"'raters': votes: expected whole label values, got .*mode='nearest'"):
        RestoreVotesd("raters")(Spacingd("raters", 1.5, mode="bilinear")({"raters": votes}))
    assert RestoreVotes()(torch.tensor([[-3.0, 300.0]])).dtype == torch.int16


@pytest.mark.parametrize(
    ("convention", "values", "channels"),
    [  # TC, WT, ET of each label value, written out
        ("brats2018", [0, 1, 2, 4], [[0, 1, 0, 1], [0, 1, 1, 1], [0, 0, 0, 1]]),
        ("brats2021", [0, 1, 2, 4], [[0, 1, 0, 1], [0, 1, 1, 1], [0, 0, 0, 1]]),
        ("brats2023", [0, 1, 2, 3], [[0, 1, 0, 1], [0, 1, 1, 1], [0, 0, 0, 1]]),
        ("brats2024", [0, 1, 2, 3, 4], [[0, 1, 0, 1, 0], [0, 1, 1, 1, 0], [0, 0, 0, 1, 0]]),
        ("msd", [0, 1, 2, 3], [[0, 0, 1, 1], [0, 1, 1, 1], [0, 0, 0, 1]]),
    ],
)
def test_regions_of_the_conventions(convention, values, channels):
    label = MetaTensor(torch.tensor([values], dtype=torch.float32), meta={"filename_or_obj": "a.nii"})
    out = LabelRegionsd("label", convention)({"label": label})["label"]
    assert out.tolist() == channels
    assert out.dtype == torch.float32
    assert out.meta["filename_or_obj"] == "a.nii"


def test_regions_refuse_stacks_and_fractions():
    with pytest.raises(ValueError, match=r"index map \(1, \*S\)"):
        LabelRegions("msd")(torch.zeros(2, 4))
    with pytest.raises(ValueError, match="whole label values"):
        LabelRegions("msd")(torch.full((1, 4), 0.5))


def test_label_values_by_a_scale_factor_are_whole():
    """As the loader of raters takes them; a cast alone would make 1 of 1.9999999."""
    values = torch.tensor([[0.0, 0.9999999, 1.9999999, 4.0000002]], dtype=torch.float64)
    assert RestoreVotes()(values).tolist() == [[0, 1, 2, 4]]
    assert LabelRegions("brats2021")(values).tolist() == [[0, 1, 0, 1], [0, 1, 1, 1], [0, 0, 0, 1]]
    with pytest.raises(ValueError, match=r"expected whole label values, got 1\.002"):
        RestoreVotes()(values + torch.tensor([0, 0.002, 0, 0]))


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64, torch.float32])
def test_values_too_large_for_int16_are_no_other_values(dtype):
    """Cast, 65540 would be 4."""
    with pytest.raises(ValueError, match="votes: expected whole label values within int16, got 65540"):
        RestoreVotes()(torch.tensor([[1, 65540]], dtype=dtype))


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int8, torch.int16, torch.int64, torch.float16])
def test_votes_of_any_dtype_are_restored(dtype):
    values = [[0, 1, 1]] if dtype == torch.bool else [[0, 1, 100]]
    restored = RestoreVotes()(torch.tensor(values).to(dtype))
    assert (restored.dtype, restored.tolist()) == (torch.uint8, values)
