"""DistillationLoss, SoftDeepSupervisionLoss, LovaszSoftmaxLoss, the two distances and loss_for_metric against numpy definitions."""

from __future__ import annotations

import copy
import itertools
import math
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

import monai_jdt.losses as losses
from monai_jdt.checks import value_checks
from tests.losses.strategies import COMPOUND, OVERLAP, as_array
from tests.oracles import companions, norm_form

ALL = OVERLAP + COMPOUND
seeds = st.integers(0, 10**6)
FEW = settings(max_examples=max(settings.default.max_examples // 6, 8))  # the oracles' loops are slow


def generator(seed):
    return torch.Generator().manual_seed(seed)


def some(seed, *shape, softmax=True):
    """(logits, soft label, teacher logits, mask)."""
    g = generator(seed)
    x, raw, teacher = (2 * torch.randn(*shape, generator=g, dtype=torch.float64) for _ in range(3))
    label = torch.softmax(raw, 1) if softmax else torch.sigmoid(raw)
    mask = torch.rand(shape[0], 1, *shape[2:], generator=g) < 0.7
    return x, label, teacher, mask


# --- distillation ---

OPTIONS = [
    {},
    {"temperature": 3.0, "lambda_label": 0.3, "lambda_teacher": 0.9},
    {"alpha": 0.3, "beta": 0.7, "lambda_jdt": 0.6, "lambda_ce": 0.4, "average": "image"},
    {"temperature": 0.5, "label_smoothing": 0.2, "classes": "both", "include_background": False},
    {"reduction": "sum", "temperature": 2.0},
    {"norm": 2, "batch": True, "gamma": 1.5},
]


@pytest.mark.parametrize("key", ["sigmoid", "softmax"])
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("labelled", [True, False])
@FEW
@given(seed=seeds, masked=st.booleans())
def test_distillation_equals_the_oracle(key, options, labelled, seed, masked):
    x, label, teacher, mask = some(seed, 2, 3, 2, 2, softmax=key == "softmax")
    options = {key: True, **options}
    mask, target = mask if masked else None, label if labelled else None
    got = losses.DistillationLoss(**options)(x, target, teacher, mask)
    arrays = [None if v is None else as_array(v) for v in (x, target, teacher, mask)]
    assert got.item() == pytest.approx(companions.distillation(*arrays, **options), rel=1e-9)


def test_distillation_of_votes_and_indices():
    """The label half is JDTCELoss, in any form; a voxel that its label ignores is out of both halves."""
    x, _, teacher, mask = some(0, 2, 3, 4)
    votes, index = torch.randint(0, 3, (2, 4, 4)), torch.randint(0, 3, (2, 1, 4))
    index[0, 0, 1] = 255
    weights = torch.tensor([1.0, 0.5, 0.0, 2.0])
    for form, target, extra in (
        ({"votes": True}, votes, {"rater_weights": weights}),
        ({"to_onehot_y": True, "ignore_index": 255}, index, {}),
    ):
        options = {"softmax": True, "weight": [1.0, 20.0, 3.0]}
        got = losses.DistillationLoss(**options, **form)(x, target, teacher, mask, **extra)
        half = losses.JDTCELoss(**options, **form)(x, target, mask, **extra)
        counts = mask & (target != 255).all(1, keepdim=True)
        other = losses.DistillationLoss(**options)(x, None, teacher, counts)
        torch.testing.assert_close(got, 0.5 * half + other, rtol=1e-10, atol=0)
        # Without a mask the label alone says what is out.
        got = losses.DistillationLoss(**options, **form)(x, target, teacher, **extra)
        half = losses.JDTCELoss(**options, **form)(x, target, **extra)
        other = losses.DistillationLoss(**options)(x, None, teacher, (target != 255).all(1, keepdim=True))
        torch.testing.assert_close(got, 0.5 * half + other, rtol=1e-10, atol=0)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("key", ["sigmoid", "softmax"])
def test_distillation_is_smallest_where_teacher_is_label(key, temperature):
    """Promise 1, with teacher = label, class weights 1 : 20; and 0 for the teacher half."""
    for t in (i / 10 for i in range(1, 10)):
        p = torch.linspace(0.1, 0.9, 9, dtype=torch.float64) if t != 0.5 else torch.linspace(0.05, 0.95, 19, dtype=torch.float64)
        label = torch.full((1, 2, 3), 1 - t, dtype=torch.float64)
        label[:, 1] = t

        logits = torch.logit if key == "sigmoid" else torch.log

        loss = losses.DistillationLoss(**{key: True}, temperature=temperature, weight=[1.0, 20.0])
        teacher = logits(label)
        shared = [logits(torch.stack([1 - q, q])).reshape(1, 2, 1).expand(1, 2, 3) for q in p]
        values = [loss(x, label, teacher).item() for x in shared]
        assert p[int(np.argmin(values))].item() == pytest.approx(t)
        alone = losses.DistillationLoss(**{key: True}, temperature=temperature)
        assert abs(alone(teacher, None, teacher).item()) < 1e-12


def test_the_teacher_is_not_trained():
    x, label, teacher, _ = some(1, 2, 3, 4)
    x.requires_grad_(), teacher.requires_grad_(), label.requires_grad_()
    losses.DistillationLoss(softmax=True)(x, label, teacher).backward()
    assert x.grad.abs().sum() > 0
    assert teacher.grad is None
    assert label.grad is None


@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf])
def test_poison_in_the_ignored_voxels_of_student_and_teacher(poison):
    x, label, teacher, mask = some(2, 2, 3, 8)
    for key in ("sigmoid", "softmax"):
        results = []
        for filler in (0.0, poison):
            student = torch.where(mask, x, filler).requires_grad_()
            loss = losses.DistillationLoss(**{key: True}, temperature=2.0)
            value = loss(student, torch.where(mask, label, filler), torch.where(mask, teacher, filler), mask)
            value.backward()
            results.append((value.detach(), student.grad))
        assert results[1][0].isfinite()
        assert torch.equal(results[0][0], results[1][0])
        assert torch.equal(results[0][1], results[1][1])


def test_distillation_errors_and_checks():
    x, label, teacher, _ = some(3, 2, 3, 4)
    make = losses.DistillationLoss
    for arguments, words in (
        ({"softmax": True, "temperature": 0.0}, "temperature"),
        ({"softmax": True, "lambda_label": -1.0}, "lambda_label"),
        ({"softmax": True, "lambda_teacher": -1.0}, "lambda_teacher"),
        ({"softmax": True, "reduction": "none"}, "reduction"),
        ({}, "softmax"),
    ):
        with pytest.raises(ValueError, match=words):
            make(**arguments)
    with pytest.raises(ValueError, match="teacher_logits"):
        make(softmax=True)(x, label, teacher[:1])
    with pytest.raises(TypeError, match="teacher_logits"):
        make(softmax=True)(x, label, None)
    half = make(softmax=True)(x.half().requires_grad_(), label.half(), teacher.half())
    assert half.dtype is torch.float32


def test_distillation_gradcheck():
    x, label, teacher, mask = some(4, 2, 2, 3)
    for key in ("sigmoid", "softmax"):
        loss = losses.DistillationLoss(**{key: True}, temperature=2.0, alpha=0.3, beta=0.7)
        leaf = x.clone().requires_grad_()
        assert torch.autograd.gradcheck(lambda v, loss=loss: loss(v, label, teacher, mask), (leaf,))
        assert torch.autograd.gradgradcheck(lambda v, loss=loss: loss(v, label, teacher, mask), (leaf,), fast_mode=True)


# --- deep supervision ---


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("key", ["sigmoid", "softmax"])
@pytest.mark.parametrize("per_channel", [False, True])
@FEW
@given(seed=seeds)
def test_deep_supervision_by_area_means_over_counted_voxels(name, key, per_channel, seed):
    g = generator(seed)
    _, label, _, mask = some(seed, 2, 3, 4, 6, softmax=key == "softmax")
    if per_channel and key == "sigmoid":
        mask = torch.rand(2, 3, 4, 6, generator=g) < 0.6
    sizes = [(4, 6), (2, 3), (2, 2), (1, 1)]
    heads = [torch.randn(2, 3, *size, generator=g, dtype=torch.float64) for size in sizes]
    loss = getattr(losses, name)(**{key: True})
    got = losses.SoftDeepSupervisionLoss(loss)(heads, label, mask)
    expected = 0.0
    for weight, head, size in zip((1.0, 0.5, 0.25, 0.125), heads, sizes, strict=True):
        small, counted = companions.area_mean(as_array(label), as_array(mask), size)
        expected += weight * norm_form.value(name, as_array(head), small, counted, **{key: True})
    assert got.item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("mode", ["exp", "two", "same"])
def test_deep_supervision_weights(mode):
    """MONAI's: exp max(.5^l, .0625), two 1 and .5, same 1."""
    t = torch.rand(1, 1, 8, dtype=torch.float64)
    heads = [torch.rand(1, 1, 8, dtype=torch.float64) for _ in range(6)]
    single = [losses.JaccardMetricLoss()(head, t).item() for head in heads]
    weights = {"exp": [1, 0.5, 0.25, 0.125, 0.0625, 0.0625], "two": [1] + [0.5] * 5, "same": [1] * 6}[mode]
    got = losses.SoftDeepSupervisionLoss(losses.JaccardMetricLoss(), mode)(heads, t)
    assert got.item() == pytest.approx(sum(w * v for w, v in zip(weights, single, strict=True)))
    own = losses.SoftDeepSupervisionLoss(losses.JaccardMetricLoss(), weights=[0.0, 2.0, 0.0, 0.0, 0.0, 1.0])(heads, t)
    assert own.item() == pytest.approx(2 * single[1] + single[5])


def test_deep_supervision_sentinels_never_enter_a_mean():
    """Index maps with 255, votes with silent raters, dense markers: like the dense label with a mask."""
    g = generator(5)
    index = torch.randint(0, 3, (2, 1, 4, 4), generator=g)
    nowhere = torch.rand(2, 1, 4, 4, generator=g) < 0.3
    nowhere[0, 0, :2, :2] = True  # a block without a counted voxel
    dense = torch.nn.functional.one_hot(index[:, 0], 3).movedim(-1, 1).double()
    heads = [torch.randn(2, 3, 4, 4, generator=g, dtype=torch.float64), torch.randn(2, 3, 2, 2, generator=g, dtype=torch.float64)]
    expected = losses.SoftDeepSupervisionLoss(losses.JDTCELoss(softmax=True))(heads, dense, ~nowhere)
    for options, target, mask in (
        ({"to_onehot_y": True, "ignore_index": 255}, index.masked_fill(nowhere, 255), None),
        ({"votes": True, "ignore_index": 255}, index.masked_fill(nowhere, 255).expand(2, 4, 4, 4), None),
        ({"ignore_index": 255}, dense.masked_fill(nowhere, 255), None),
        ({}, dense.masked_fill(nowhere, math.nan), ~nowhere),
    ):
        got = losses.SoftDeepSupervisionLoss(losses.JDTCELoss(softmax=True, **options))(heads, target, mask)
        torch.testing.assert_close(got, expected, rtol=1e-10, atol=0)
    # What a head says in the block that nobody counts does not matter.
    dirty = [heads[0], heads[1].clone()]
    dirty[1][0, :, 0, 0] = math.nan
    torch.testing.assert_close(losses.SoftDeepSupervisionLoss(losses.JDTCELoss(softmax=True))(dirty, dense, ~nowhere), expected)


@pytest.mark.parametrize("name", OVERLAP)
def test_deep_supervision_is_zero_at_the_area_means(name):
    t = torch.rand(2, 2, 4, 4, dtype=torch.float64)
    means = torch.nn.functional.avg_pool2d(t, 2)
    loss = losses.SoftDeepSupervisionLoss(getattr(losses, name)())
    assert loss([t, means], t).item() == pytest.approx(0, abs=1e-15)
    assert loss([t, means + 0.01], t).item() > 1e-4


def test_deep_supervision_takes_odd_sizes_and_stacked_heads():
    """PyTorch's adaptive blocks [floor(i s / o), ceil((i + 1) s / o)) where sizes do not divide; DynUNet's stacked heads."""
    t = torch.rand(1, 1, 5, dtype=torch.float64)
    head = torch.rand(1, 1, 3, dtype=torch.float64)
    label = torch.stack([t[0, 0, 0:2].mean(), t[0, 0, 1:4].mean(), t[0, 0, 3:5].mean()]).reshape(1, 1, 3)
    got = losses.SoftDeepSupervisionLoss(losses.JaccardMetricLoss(), weights=[1.0])([head], t)
    torch.testing.assert_close(got, losses.JaccardMetricLoss()(head, label))
    heads = torch.rand(2, 3, 1, 4, 4)
    target = torch.rand(2, 1, 4, 4)
    stacked, listed = (losses.SoftDeepSupervisionLoss(losses.JaccardMetricLoss())(h, target) for h in (heads, list(heads.unbind(1))))
    assert torch.equal(stacked, listed)


def test_deep_supervision_errors():
    make = losses.SoftDeepSupervisionLoss
    with pytest.raises(TypeError, match="loss"):
        make("JDTLoss")
    with pytest.raises(TypeError, match="loss"):
        make(losses.LovaszSoftmaxLoss())
    with pytest.raises(ValueError, match="weight_mode"):
        make(losses.JDTLoss(), "linear")
    with pytest.raises(ValueError, match="weights"):
        make(losses.JDTLoss(), weights=[1.0])([torch.rand(1, 1, 4), torch.rand(1, 1, 2)], torch.rand(1, 1, 4))
    with pytest.raises(ValueError, match="input"):
        make(losses.JDTLoss())([], torch.rand(1, 1, 4))
    with pytest.raises(ValueError, match="input"):
        make(losses.JDTLoss())([torch.rand(1, 1, 8)], torch.rand(1, 1, 4))
    with pytest.raises(ValueError, match="target"):
        make(losses.JDTLoss())([torch.rand(1, 2, 2)], torch.rand(1, 3, 4))
    with pytest.raises(ValueError, match="target"):
        make(losses.JDTLoss(sigmoid=True))([torch.rand(1, 1, 2)], torch.full((1, 1, 4), 255.0))


# --- Lovász ---


@pytest.mark.parametrize("options", [{}, {"per_image": True}, {"classes": "all"}, {"classes": [1, 2]}, {"include_background": False}])
@given(seed=seeds, masked=st.booleans(), ignored=st.booleans())
def test_lovasz_equals_its_definition(options, seed, masked, ignored):
    x, _, _, mask = some(seed, 2, 3, 2, 4)
    index = torch.randint(0, 3, (2, 1, 2, 4), generator=generator(seed))
    options = {**options, **({"ignore_index": 2} if ignored else {})}
    mask = mask if masked else None
    got = losses.LovaszSoftmaxLoss(to_onehot_y=True, **options)(x, index, mask)
    expected = companions.lovasz_softmax(as_array(x), as_array(index), None if mask is None else as_array(mask), **options)
    assert got.item() == pytest.approx(expected, rel=1e-9, abs=1e-12)
    if not ignored:
        dense = torch.nn.functional.one_hot(index[:, 0], 3).movedim(-1, 1)
        assert torch.equal(losses.LovaszSoftmaxLoss(**options)(x, dense, mask), got)


def test_lovasz_is_the_jaccard_loss_of_sure_predictions():
    """Logits of +-1000: errors 0 and 1. Foreground {0, 1, 2}, wrong on {0, 3}: 1 - 2 / 4; background {3, 4}: 1 - 1 / 3."""
    index = torch.tensor([[[1, 1, 1, 0, 0]]])
    predicted = torch.tensor([[0, 1, 1, 1, 0]])
    x = 1000 * (2.0 * torch.nn.functional.one_hot(predicted, 2).movedim(-1, 1) - 1)
    assert losses.LovaszSoftmaxLoss(to_onehot_y=True)(x, index).item() == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert losses.LovaszSoftmaxLoss(to_onehot_y=True, include_background=False)(x, index).item() == pytest.approx(1 / 2)


def test_lovasz_refuses_soft_labels_and_ignores_poison():
    x, label, _, mask = some(0, 2, 3, 6)
    with pytest.raises(ValueError, match=r"target.*(hard|soft)"):
        losses.LovaszSoftmaxLoss()(x, label)
    index = torch.randint(0, 3, (2, 1, 6))
    loss = losses.LovaszSoftmaxLoss(to_onehot_y=True)
    results = []
    for filler in (0.0, math.nan, math.inf):
        leaf = torch.where(mask, x, filler).requires_grad_()
        value = loss(leaf, index, mask)
        value.backward()
        results.append((value.detach(), leaf.grad))
    for value, gradient in results[1:]:
        assert torch.equal(value, results[0][0])
        assert torch.equal(gradient, results[0][1])
    nothing = x.clone().requires_grad_()
    value = loss(nothing, index, torch.zeros_like(mask))
    value.backward()
    assert value.item() == 0
    assert (nothing.grad == 0).all()


def test_lovasz_gradcheck_and_half():
    x, _, _, _ = some(7, 1, 3, 5)
    index = torch.tensor([[[0, 1, 2, 1, 0]]])
    loss = losses.LovaszSoftmaxLoss(to_onehot_y=True)
    assert torch.autograd.gradcheck(lambda v: loss(v, index), (x.requires_grad_(),))
    half = torch.randn(1, 2, 70, 70, 20, dtype=torch.float16, requires_grad=True)
    value = loss(half, (half.detach()[:, :1] > 1).long())
    value.backward()
    assert value.dtype is torch.float32
    assert value.isfinite()
    assert half.grad.isfinite().all()


# --- distances ---

vectors = st.integers(1, 6).flatmap(
    lambda size: st.lists(
        st.lists(st.sampled_from([0.0, 0.1, 1.0, 3.5, 100.0, 1e-3]), min_size=size, max_size=size), min_size=3, max_size=3
    )
)


@given(vectors, st.sampled_from([0.0, 0.5]))
def test_distances_equal_the_norm_form(three, smooth):
    x, y, z = torch.tensor(three, dtype=torch.float64)
    for make, coefficient in ((losses.JaccardDistance, 1.0), (losses.DiceDistance, 0.5)):
        d = make(smooth=smooth)
        assert d(x, y).item() == pytest.approx(companions.distance(three[0], three[1], coefficient, smooth), rel=1e-9, abs=1e-12)
        assert d(x, y).item() == pytest.approx(d(y, x).item(), abs=1e-15)
        assert d(x, x).item() == 0
        assert (d(x, y).item() == 0) == torch.equal(x, y)
    d = losses.JaccardDistance(smooth=smooth)
    assert d(x, z).item() <= d(x, y).item() + d(y, z).item() + 1e-12


def test_distances_shapes_reductions_and_zero():
    x, y = torch.rand(4, 3, 5), torch.rand(4, 3, 5)
    for make in (losses.JaccardDistance, losses.DiceDistance):
        each = make(reduction="none")(x, y)
        assert each.shape == (4, 3)
        torch.testing.assert_close(make()(x, y), each.mean())
        torch.testing.assert_close(make(reduction="sum")(x, y), each.sum())
        assert make(dim=(0, 2), reduction="none")(x, y).shape == (3,)
        assert make(dim=1, reduction="none")(x, y).shape == (4, 5)
        zero = torch.zeros(2, 5, requires_grad=True)
        value = make()(zero, torch.zeros(2, 5))
        value.backward()
        assert value.item() == 0
        assert (zero.grad == 0).all()
        assert make()(torch.zeros(0, 5), torch.zeros(0, 5)).item() == 0


def test_distances_give_a_gradient_to_both_sides():
    x, y = (torch.rand(3, 5, dtype=torch.float64, requires_grad=True) for _ in range(2))
    for make in (losses.JaccardDistance, losses.DiceDistance):
        assert torch.autograd.gradcheck(make(), (x, y))
        assert torch.autograd.gradgradcheck(make(), (x, y))
    losses.JaccardDistance()(x, y).backward()
    assert x.grad.abs().sum() > 0
    assert y.grad.abs().sum() > 0


def test_distances_refuse_negative_numbers_or_map_them():
    x, y = torch.tensor([-1.0, 2.0]), torch.tensor([1.0, 2.0])
    for make in (losses.JaccardDistance, losses.DiceDistance):
        with pytest.raises(ValueError, match=r"(?s)-1.*negative"):
            make()(x, y)
        with value_checks("off"):
            assert make()(x, y).isnan()
        for way, function in (("softplus", torch.nn.functional.softplus), ("sigmoid", torch.sigmoid)):
            torch.testing.assert_close(make(negative=way)(x, y), make()(function(x), function(y)))
        with pytest.raises(ValueError, match="reduction"):
            make(reduction="average")
        with pytest.raises(ValueError, match="smooth"):
            make(smooth=-1.0)
        with pytest.raises(ValueError, match=r"y.*\(2,\).*\(3,\)"):
            make()(y, torch.rand(3))
        with pytest.raises(TypeError, match="x"):
            make()(torch.tensor([1, 2]), y)
        with pytest.raises(ValueError, match="dim"):
            make(dim=2)(y, y)


def test_distances_are_the_quantity_of_the_losses():
    p, t = torch.rand(2, 3, 4, 5), torch.rand(2, 3, 4, 5)
    for distance, loss in ((losses.JaccardDistance, losses.JaccardMetricLoss), (losses.DiceDistance, losses.DiceSemimetricLoss)):
        torch.testing.assert_close(distance(dim=(2, 3), smooth=1e-5)(p, t), loss()(p, t))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_distances_in_half_precision(dtype):
    """70000 ones overflow a float16 sum."""
    x, y = torch.ones(1, 70000, dtype=dtype), torch.full((1, 70000), 0.5, dtype=dtype)
    for make, expected in ((losses.JaccardDistance, 0.5), (losses.DiceDistance, 1 / 3)):
        value = make()(x, y)
        assert value.dtype is torch.float32
        assert value.item() == pytest.approx(expected)


# --- which loss for which metric ---


def hard_metric(kind, average, predicted, label):
    """mean over classes that the label has, of Dice or Jaccard, from counts: arXiv:2310.19252's mIoU^D, mIoU^I, mIoU^C."""

    def score(rows, c):
        tp = sum(((predicted[i] == c) & (label[i] == c)).sum() for i in rows)
        wrong = sum(((predicted[i] == c) != (label[i] == c)).sum() for i in rows)
        return tp / (tp + wrong * (0.5 if kind == "mDice" else 1.0))

    n, classes = len(label), range(3)
    present = {(i, c) for i, c in itertools.product(range(n), classes) if (label[i] == c).any()}
    if average == "dataset":
        return np.mean([score(range(n), c) for c in classes if any((i, c) in present for i in range(n))])
    first, second = (range(n), classes) if average == "image" else (classes, range(n))
    rows = [[(i, c) if average == "image" else (c, i) for c in second] for i in first]
    rows = [[score([i], c) for i, c in row if (i, c) in present] for row in rows]
    return np.mean([np.mean(row) for row in rows if row])


@pytest.mark.parametrize("metric", ["mDice", "mIoU"])
@pytest.mark.parametrize("average", ["dataset", "image", "class"])
@given(seed=seeds)
def test_the_recommended_loss_is_one_minus_the_metric_on_hard_predictions(metric, average, seed):
    rng = np.random.default_rng(seed)
    label, predicted = rng.integers(0, 3, (2, 8)), rng.integers(0, 3, (2, 8))
    label[0][label[0] == 2] = 1  # the first image lacks a class
    arguments = losses.loss_for_metric(metric, average=average, labels="hard")
    p = torch.nn.functional.one_hot(torch.from_numpy(predicted), 3).movedim(-1, 1).double()
    loss = losses.JDTLoss(to_onehot_y=True, smooth_nr=0, smooth_dr=0, **arguments)(p, torch.from_numpy(label)[:, None])
    assert loss.item() == pytest.approx(1 - hard_metric(metric, average, predicted, label), abs=1e-12)


def test_loss_for_metric_arguments():
    assert losses.loss_for_metric("mDice", average="image")["alpha"] == 0.5
    assert losses.loss_for_metric("mIoU")["average"] == "dataset"
    f2 = losses.loss_for_metric("F2")
    assert (f2["alpha"], f2["beta"]) == (0.2, 0.8)  # F_b = (1 + b^2) tp / ((1 + b^2) tp + b^2 fn + fp)
    for wrong in ("Hausdorff", "F0", ""):
        with pytest.raises(ValueError, match="metric"):
            losses.loss_for_metric(wrong)
    with pytest.raises(ValueError, match="average"):
        losses.loss_for_metric("mDice", average="voxel")
    weights = {"image": 0.5, "class": 0.5}
    losses.JDTLoss(softmax=True, **losses.loss_for_metric("mIoU", average=weights))
    assert weights == {"image": 0.5, "class": 0.5}


# --- promises 9 and 10 for them ---


def callables():
    """name -> (module, its arguments)."""
    x, label, teacher, mask = (v.float() if v.is_floating_point() else v for v in some(0, 2, 3, 4, 4))
    index = label.argmax(1, keepdim=True)
    heads = [x, torch.randn(2, 3, 2, 2)]
    return {
        "DistillationLoss": (
            losses.DistillationLoss(softmax=True, temperature=2.0, weight=[1.0, 20.0, 3.0]),
            (x, label, teacher, mask),
        ),
        "DistillationLoss unlabelled": (losses.DistillationLoss(sigmoid=True), (x, None, teacher)),
        "SoftDeepSupervisionLoss": (losses.SoftDeepSupervisionLoss(losses.JDTCELoss(softmax=True)), (heads, label, mask)),
        "SoftDeepSupervisionLoss of indices": (
            losses.SoftDeepSupervisionLoss(losses.JDTLoss(softmax=True, to_onehot_y=True, ignore_index=2)),
            (heads, index),
        ),
        "LovaszSoftmaxLoss": (losses.LovaszSoftmaxLoss(to_onehot_y=True, ignore_index=2, per_image=True), (x, index, mask)),
        "JaccardDistance": (losses.JaccardDistance(), (x.exp(), teacher.exp())),
        "DiceDistance": (losses.DiceDistance(dim=(1, 2)), (x.exp(), teacher.exp())),
    }


NAMES = list(callables())


@pytest.mark.parametrize("name", NAMES)
def test_companions_compile_and_export(name):
    module, given = callables()[name]
    expected = module(*given)
    torch._dynamo.reset()
    torch.testing.assert_close(torch.compile(module, fullgraph=True, backend="aot_eager")(*given), expected)
    torch.testing.assert_close(torch.export.export(module, given).module()(*given), expected)
    torch._dynamo.reset()


@pytest.mark.parametrize("name", NAMES)
def test_companions_do_not_wait_for_the_device(name):
    seen = []

    class Waits(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if any(word in str(func) for word in ("_local_scalar_dense", "nonzero", "masked_select")):
                seen.append(str(func))
            return func(*args, **(kwargs or {}))

    module, given = callables()[name]
    leaf = (given[0][0] if isinstance(given[0], list) else given[0]).clone().requires_grad_()
    first = [leaf, *given[0][1:]] if isinstance(given[0], list) else leaf
    with value_checks("off"), Waits():
        module(first, *given[1:]).backward()
    assert seen == []


@pytest.mark.parametrize("name", NAMES)
def test_companions_state(name):
    module, given = callables()[name]
    before = copy.deepcopy(module.state_dict())
    copies = copy.deepcopy(given)
    expected = module(*given)
    assert before.keys() == module.state_dict().keys()
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(other(*given), expected)
    for original, kept in zip(given, copies, strict=True):
        for a, b in zip(original, kept, strict=True) if isinstance(original, list) else [(original, kept)]:
            assert a is None or torch.equal(a, b)


@pytest.mark.parametrize("name", NAMES)
def test_companions_on_meta_tensors(name):
    module, given = callables()[name]

    def meta(v):
        return [meta(e) for e in v] if isinstance(v, list) else None if v is None else v.to("meta")

    assert module.to("meta")(*(meta(v) for v in given)).is_meta


@pytest.mark.parametrize("name", [n for n in NAMES if not n.startswith(("Soft", "Jaccard", "Dice"))])
def test_companions_of_nothing(name):
    module, given = callables()[name]
    for cut in (lambda v: v[:0], lambda v: v[..., :0]):
        x = cut(given[0]).clone().requires_grad_()
        value = module(x, *(None if v is None else cut(v) for v in given[1:]))
        value.backward()
        assert value.item() == 0
        assert x.grad is not None


# --- promise 2 for them: the work is done in float32 or wider, on the rounded inputs ---


@pytest.mark.parametrize("key", ["sigmoid", "softmax"])
@pytest.mark.parametrize("temperature", [1.0, 3.0])
@pytest.mark.parametrize("student_dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("teacher_dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_distillation_of_any_dtypes_is_that_of_the_rounded_values(key, temperature, student_dtype, teacher_dtype):
    x, label, teacher, mask = some(11, 2, 3, 6)
    x, teacher = x.to(student_dtype).requires_grad_(), teacher.to(teacher_dtype)
    for target in (label, None):
        loss = losses.DistillationLoss(**{key: True}, temperature=temperature)
        got = loss(x, target, teacher, mask)
        got.backward()
        assert got.dtype is (torch.float64 if student_dtype is torch.float64 else torch.float32)
        assert x.grad.dtype is student_dtype
        assert got.item() == pytest.approx(loss(x.double(), target, teacher.double(), mask).item(), rel=2e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_half_precision_student_that_is_its_teacher_has_nothing_to_learn(dtype):
    x = (3 * torch.randn(2, 3, 50)).to(dtype)
    for key in ("sigmoid", "softmax"):
        for temperature in (1.0, 3.0, 7.0):
            assert abs(losses.DistillationLoss(**{key: True}, temperature=temperature)(x, None, x).item()) < 1e-6


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_deep_supervision_and_lovasz_in_half_precision(dtype):
    x = torch.randn(2, 2, 8, 8).to(dtype)
    small = torch.randn(2, 2, 4, 4).to(dtype)
    label = torch.softmax(torch.randn(2, 2, 8, 8), 1).to(dtype)
    loss = losses.SoftDeepSupervisionLoss(losses.JDTCELoss(softmax=True))
    got = loss([x, small], label)
    assert got.dtype is torch.float32
    assert got.item() == pytest.approx(loss([x.double(), small.double()], label.double()).item(), rel=2e-6)
    index = torch.randint(0, 2, (2, 1, 8, 8))
    lovasz = losses.LovaszSoftmaxLoss(to_onehot_y=True)
    assert lovasz(x, index).item() == pytest.approx(lovasz(x.double(), index).item(), rel=2e-6)
