"""What the tests of kernels share."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from monai_jdt.definitions import Backend

#: Without --long, the slow interpreter runs one in so many parameter sets of each test of the contract.
TRITON_RUNS_ONE_IN = 12


@pytest.fixture
def poisoned_memory() -> Iterator[None]:
    """Fill fresh memory with NaN, or the largest integer, so that what a kernel forgets to write shows."""
    switches: Any = torch.utils.deterministic  # a module whose type makes it a property
    before = switches.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    switches.fill_uninitialized_memory = True
    yield
    switches.fill_uninitialized_memory = before
    torch.use_deterministic_algorithms(False)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep every test of the contract on Triton, but not with every set of parameters."""
    if config.getoption("--long") or torch.cuda.is_available():
        return
    on_triton = defaultdict(list)
    for item in items:
        parameters = getattr(getattr(item, "callspec", None), "params", {})
        if isinstance(item, pytest.Function) and item.path.name == "test_contract.py" and parameters.get("kernel") is Backend.TRITON:
            on_triton[item.originalname].append(item)
    left_out = {item for group in on_triton.values() for number, item in enumerate(group) if number % TRITON_RUNS_ONE_IN}
    config.hook.pytest_deselected(items=sorted(left_out, key=lambda item: item.nodeid))
    items[:] = [item for item in items if item not in left_out]
