"""The two tiers of tests, and the settings that every test shares."""

from __future__ import annotations

import locale
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import hypothesis
import pytest
import torch

_LOCALE = locale.setlocale(locale.LC_ALL)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="run the long tier too: everything, at most an hour on two cores")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "long: runs with --long only")
    hypothesis.settings.register_profile("short", deadline=None, max_examples=50, derandomize=True)
    hypothesis.settings.register_profile("long", deadline=None, max_examples=1000, derandomize=True)
    hypothesis.settings.load_profile("long" if config.getoption("--long") else "short")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--long"):
        for item in items:
            # not `item.keywords`, which has the names of the folders above: a checkout in one called "long" would skip all
            if item.get_closest_marker("long"):
                item.add_marker(pytest.mark.skip(reason="needs --long"))


@pytest.fixture(autouse=True)
def same_locale() -> Iterator[None]:
    """Each test begins with the process's own locale. GDCM leaves "C" behind, and Python then opens text as ASCII."""
    locale.setlocale(locale.LC_ALL, _LOCALE)
    yield
    locale.setlocale(locale.LC_ALL, _LOCALE)


@pytest.fixture(scope="session")
def examples(request: pytest.FixtureRequest) -> Callable[[int, int], int]:
    """`examples(short, long)`: a number of examples for this tier."""
    is_long = request.config.getoption("--long")
    return lambda short, long: long if is_long else short


@pytest.fixture(autouse=True)
def _same_start() -> Iterator[None]:
    torch.manual_seed(0)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


os.environ.setdefault("MPLBACKEND", "Agg")
# Without a GPU, Triton's kernels run under its interpreter. Triton reads this at its import, which is later than here; nothing else
# does: on a CPU `torch.compile` generates C++, and "auto" never takes these kernels for CPU tensors.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")


class OwnSequence(Sequence):
    """A sequence that is no list, as omegaconf's ListConfig."""

    def __init__(self, *items: object) -> None:
        self._items = items

    def __getitem__(self, number: Any) -> Any:
        return self._items[number]

    def __len__(self) -> int:
        return len(self._items)


@pytest.fixture
def own_sequence() -> type[OwnSequence]:
    """The class of such a sequence, made of its items."""
    return OwnSequence
