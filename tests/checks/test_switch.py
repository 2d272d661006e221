"""`value_checks`: its scope, and the transforms of torch under which no value is read."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from monai.data import MetaTensor
from torch.fx.experimental.proxy_tensor import make_fx

from monai_jdt import value_checks
from monai_jdt.checks import can_read_values
from monai_jdt.losses import (
    DistillationLoss,
    JaccardDistance,
    JDTCELoss,
    JDTFocalLoss,
    JDTLoss,
    LovaszSoftmaxLoss,
    SoftDeepSupervisionLoss,
)

X = torch.randn(2, 3, 4, 4)
SOFT = torch.softmax(torch.randn(2, 3, 4, 4), 1)
BAD = torch.full((2, 3, 4, 4), 255.0)


def looks() -> bool:
    """Whether a label of 255 is refused now."""
    try:
        JDTLoss(sigmoid=True)(X, BAD)
    except ValueError:
        return True
    return False


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    with value_checks("auto"):
        yield


def test_one_object_serves_several_blocks() -> None:
    off = value_checks("off")
    assert not looks()  # a plain call holds until a block that it opens ends
    with off:
        assert not looks()
    assert looks()
    with off:
        with off, value_checks("on"):
            assert looks()
            with off:
                assert not looks()
            assert looks()
        assert not looks()
    assert looks()


def test_a_plain_call_holds_to_the_end_of_the_block_it_is_in() -> None:
    with value_checks("auto"):
        value_checks("off")
        assert not looks()
    assert looks()


@pytest.mark.parametrize("mode", ["auto", "on"])
def test_a_tensor_without_values_is_not_read(mode: str) -> None:
    with value_checks(mode):
        assert can_read_values(X, None)
        assert not can_read_values(X, X.to("meta"))
        assert not can_read_values(None, MetaTensor(X))


def test_an_error_ends_a_block() -> None:
    with pytest.raises(RuntimeError, match="stop"), value_checks("off"):
        raise RuntimeError("stop")
    assert looks()


def test_a_thread_has_its_own_mode() -> None:
    with value_checks("off"), ThreadPoolExecutor(1) as pool:
        assert pool.submit(looks).result()
        assert not looks()


def test_threads_that_leave_in_the_other_order() -> None:
    shared, entered, left, seen = value_checks("on"), threading.Event(), threading.Event(), []
    shared.__enter__()
    shared.__exit__(None, None, None)
    off = value_checks("off")

    def first() -> None:
        with off:
            entered.set()
            left.wait(10)
            seen.append(looks())
        seen.append(looks())

    thread = threading.Thread(target=first)
    thread.start()
    entered.wait(10)
    with off:
        assert not looks()
    assert looks()
    left.set()
    thread.join()
    assert seen == [False, True]
    assert looks()


INDEX = torch.randint(0, 3, (2, 1, 4, 4))
VOTES = torch.randint(0, 3, (2, 4, 4, 4))
MASK = (torch.rand(2, 1, 4, 4) > 0.3).float()
LOSSES = {
    "dense": lambda x: JDTLoss(softmax=True)(x, SOFT, MASK),
    "no activation": lambda x: JDTLoss()(x.sigmoid(), SOFT, MASK),
    "index": lambda x: JDTCELoss(softmax=True, to_onehot_y=True, ignore_index=1, weight=[1.0, 2.0, 3.0])(x, INDEX, MASK),
    "votes": lambda x: JDTFocalLoss(softmax=True, votes=True)(x, VOTES, MASK, rater_weights=torch.ones(4)),
    "distillation": lambda x: DistillationLoss(softmax=True)(x, SOFT, X, MASK),
    "deep supervision": lambda x: SoftDeepSupervisionLoss(JDTLoss(softmax=True))([x, x[..., ::2, ::2]], SOFT, MASK),
    "lovasz": lambda x: LovaszSoftmaxLoss(to_onehot_y=True)(x, INDEX, MASK),
    "distance": lambda x: JaccardDistance()(x.sigmoid(), SOFT),
}
TRANSFORMS = {
    "linearize": lambda f: torch.func.linearize(f, X)[0],
    "make_fx": lambda f: make_fx(f)(X)(X),
    "make_fx, pre-dispatch": lambda f: make_fx(f, pre_dispatch=True)(X)(X),
    "make_fx of a gradient": lambda f: make_fx(torch.func.grad_and_value(f))(X)(X)[1],
    "functionalize": lambda f: torch.func.functionalize(f)(X),
    "jvp": lambda f: torch.func.jvp(f, (X,), (X,))[0],
    "vjp": lambda f: torch.func.vjp(f, X)[0],
    "vmap": lambda f: torch.func.vmap(f)(X[None])[0],
}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_value_checks_trip_no_transform(transform: str, name: str) -> None:
    if name == "lovasz" and transform == "vmap":
        pytest.skip("sorts the batch as a whole")
    torch.testing.assert_close(TRANSFORMS[transform](LOSSES[name]), LOSSES[name](X))
