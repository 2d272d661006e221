"""Promise 10: forward changes nothing, the caller's objects stay the caller's, weights follow the module, copies work."""

from __future__ import annotations

import copy
import io
import json
import pickle
from fractions import Fraction
from typing import Any

import monai.bundle
import numpy as np
import pytest
import torch

import monai_jdt.losses as losses
from tests.losses.strategies import COMPOUND, OVERLAP, tame, without_warning

ALL = OVERLAP + COMPOUND
X = torch.randn(2, 3, 4)
SOFT = torch.softmax(torch.randn(2, 3, 4), 1)
VOTES = torch.randint(0, 3, (2, 4, 4))


@pytest.mark.parametrize("weight", [None, 2.0, [1.0, 20.0, 3.0], torch.tensor([1.0, 20.0, 3.0])])
@pytest.mark.parametrize("name", ALL)
def test_state_dict_is_unchanged_by_forward_and_loads(name: str, weight: Any) -> None:
    """Hole 16: MONAI's scalar weight becomes a vector on the first forward, and its state dict loads no more."""
    loss = getattr(losses, name)(softmax=True, weight=weight)
    before = copy.deepcopy(loss.state_dict())
    loss(X, SOFT)
    loss(X.repeat(2, 1, 1), SOFT.repeat(2, 1, 1))
    after = loss.state_dict()
    assert list(before) == list(after)
    for key in before:
        assert before[key].shape == after[key].shape
        assert torch.equal(before[key], after[key])
    fresh = getattr(losses, name)(softmax=True, weight=weight)
    fresh.load_state_dict(after)
    assert torch.equal(fresh(X, SOFT), loss(X, SOFT))


@pytest.mark.parametrize("name", ALL)
def test_a_scalar_weight_serves_any_number_of_channels(name: str) -> None:
    loss = getattr(losses, name)(sigmoid=True, weight=2.0)
    for channels in (1, 3, 4, 2):
        assert loss(torch.randn(2, channels, 4), torch.rand(2, channels, 4)).isfinite()


@pytest.mark.parametrize("name", ALL)
def test_the_callers_weight_is_copied(name: str) -> None:
    weight = torch.tensor([1.0, 20.0, 3.0])
    loss = getattr(losses, name)(softmax=True, weight=weight)
    before = loss(X, SOFT)
    weight.mul_(0)
    assert torch.equal(loss(X, SOFT), before)
    numbers = [1.0, 20.0, 3.0]
    loss = getattr(losses, name)(softmax=True, weight=numbers)
    numbers[0] = 100.0
    assert torch.equal(loss(X, SOFT), before)


@pytest.mark.parametrize("name", ALL)
def test_the_callers_dicts_and_lists_are_untouched(name: str) -> None:
    average, classes, regions = {"dataset": 0.2, "image": 0.8}, [0, 2], [[1, 4], [1, 2, 4], [4]]
    kept = copy.deepcopy((average, classes, regions))
    loss = getattr(losses, name)(sigmoid=True, average=average, classes=classes, regions=regions)
    index = torch.tensor([0, 1, 2, 4]).expand(2, 1, 4)
    before = loss(X, index)
    assert (average, classes, regions) == kept
    average["image"], classes[0], regions[0][0] = 5.0, 1, 2
    assert torch.equal(loss(X, index), before)


@pytest.mark.parametrize("name", ALL)
def test_the_callers_tensors_are_untouched(name: str) -> None:
    options: dict[str, Any]
    for options, target, extra in (
        ({"softmax": True, "label_smoothing": 0.1}, SOFT, {}),
        ({"softmax": True, "votes": True}, VOTES, {"rater_weights": torch.rand(2, 4)}),
        ({"softmax": True, "to_onehot_y": True, "ignore_index": 2}, VOTES[:, :1], {}),
    ):
        mask = torch.ones(2, 1, 4).bool()
        given = (X.clone().requires_grad_(), target.clone(), mask.clone(), *(v.clone() for v in extra.values()))
        versions = [g._version for g in given]
        loss = getattr(losses, name)(**options)
        loss(*given[:3], **dict(zip(extra, given[3:], strict=True))).backward()
        for g, original, version in zip(given, (X, target, mask, *extra.values()), versions, strict=True):
            assert torch.equal(g, original)
            assert g._version == version


@pytest.mark.parametrize("name", ALL)
def test_weights_follow_the_module(name: str) -> None:
    loss = getattr(losses, name)(softmax=True, weight=[1.0, 20.0, 3.0])
    (key,) = loss.state_dict()
    assert loss.double().state_dict()[key].dtype is torch.float64
    assert loss.to("meta").state_dict()[key].is_meta
    # The numbers are used in float32 or wider whatever the module was cast to.
    half = getattr(losses, name)(softmax=True, weight=[1.0, 20.0, 3.0]).half()
    assert half(X.half(), SOFT.half()).dtype is torch.float32


@pytest.mark.parametrize("name", ALL)
def test_pickle_and_deepcopy(name: str) -> None:
    options: dict[str, Any] = {"softmax": True} if name in COMPOUND else {"other_act": tame}
    options = without_warning(name, {**options, "gamma": 1.5})
    loss = getattr(losses, name)(**options, weight=[1.0, 2.0, 3.0], classes="both", average={"image": 0.5, "class": 0.5})
    expected = loss(X, SOFT)
    buffer = io.BytesIO()
    torch.save(loss, buffer)
    buffer.seek(0)
    for other in (pickle.loads(pickle.dumps(loss)), copy.deepcopy(loss), copy.copy(loss), torch.load(buffer, weights_only=False)):
        assert torch.equal(other(X, SOFT), expected)
        assert repr(other) == repr(loss)


@pytest.mark.parametrize("name", ALL)
def test_forward_has_no_memory(name: str) -> None:
    """The same call twice, and after other calls, is the same."""
    loss = getattr(losses, name)(softmax=True, average="image")
    first = loss(X, SOFT)
    loss(torch.randn(1, 5, 2, 2), torch.softmax(torch.randn(1, 5, 2, 2), 1))
    loss(torch.randn(2, 3, 4).half(), SOFT.half(), torch.zeros(2, 1, 4).bool())
    assert torch.equal(loss(X, SOFT), first)


@pytest.mark.parametrize("name", ALL)
def test_arguments_stand_in_a_config(name: str) -> None:
    """JSON-plain arguments, through MONAI's parser, by the full name and by the short one."""
    plain: dict[str, Any] = {
        "sigmoid": True,
        "average": {"image": 0.5, "class": 0.5},
        "classes": [0, 2],
        "weight": [1, 20, 3],
        "regions": [[1], [1, 2], [2]],
    }
    expected = getattr(losses, name)(**plain)(X, VOTES[:, :1])
    for target in (f"monai_jdt.losses.{name}", name):
        config = json.loads(json.dumps({"loss": {"_target_": target, **plain}}))
        loss = monai.bundle.ConfigParser(config).get_parsed_content("loss")
        assert type(loss) is getattr(losses, name)
        assert torch.equal(loss(X, VOTES[:, :1]), expected)


def test_reduction_enum_of_monai() -> None:
    from monai.utils import LossReduction

    assert torch.equal(
        losses.JDTLoss(sigmoid=True, reduction=LossReduction.SUM)(X, SOFT), losses.JDTLoss(sigmoid=True, reduction="sum")(X, SOFT)
    )


def test_numbers_of_any_library_are_stored_as_pythons() -> None:
    """A fraction times a tensor is a TypeError, and the operators' settings are text."""
    plain = losses.JDTFocalLoss(softmax=True, alpha=0.25, beta=0.5, gamma=1.5, focal_gamma=2.0, threshold=0.5, norm=1, lambda_jdt=0.5)
    for kind in (Fraction, np.float32, np.float64):
        options: dict[str, Any] = {
            "alpha": kind(0.25),
            "beta": kind(0.5),
            "gamma": kind(1.5),
            "focal_gamma": kind(2),
            "threshold": kind(0.5),
        }
        other = losses.JDTFocalLoss(softmax=True, **options, norm=np.int64(1), lambda_jdt=kind(0.5))
        assert repr(other) == repr(plain)
        assert torch.equal(other(X, SOFT), plain(X, SOFT))
