"""The suites of laws run once as they are, and once on each fast CPU kernel."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from monai_jdt.kernels.registry import is_installed
from tests.forced import FAST, auto_takes

#: Modules whose tests run on the fast kernels too: True in both tiers, False in the long one only.
ON_FAST_KERNELS = {
    "test_forced_kernels": True,
    "test_values": True,
    "test_ignored": True,
    "test_default_device": True,
    "test_laws": False,
    "test_precision": False,
    "test_gradients": False,
    "test_monai_parity": False,
}
#: Tests that no fast kernel is for, and why.
EAGER_ONLY = {"test_gradcheck_and_gradgradcheck": "a second derivative needs the graph of the eager kernel"}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    short = ON_FAST_KERNELS.get(metafunc.module.__name__.rpartition(".")[2])
    if short is None or metafunc.definition.originalname in EAGER_ONLY:
        return
    marks = [] if short else [pytest.mark.long]
    without_numba = pytest.mark.skipif(not is_installed("numba"), reason="needs numba")
    fast = [pytest.param(kernel, marks=[*marks, without_numba] if kernel == "numba" else marks) for kernel in FAST]
    metafunc.parametrize("kernel_taken", ["auto", *fast], indirect=True)


@pytest.fixture(autouse=True)
def kernel_taken(request: pytest.FixtureRequest) -> Iterator[str]:
    """What `auto` takes in this test: "auto" is its own choice."""
    kernel = getattr(request, "param", "auto")
    with auto_takes(kernel):
        yield kernel
