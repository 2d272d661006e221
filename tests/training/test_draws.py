import pickle
import random
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import CacheDataset, DataLoader
from monai.data.utils import set_rnd
from monai.transforms import Compose, Lambda, Randomizable, RandShiftIntensity
from torch.utils.data import Dataset

from monai_jdt.training import draws
from monai_jdt.training.draws import EpochIndex, EpochSampler, SeededItems, draw_seed


class _Draws(Dataset):
    """Items that draw from each generator, and one of MONAI's transforms after a cached part."""

    def __init__(self) -> None:
        transforms = [Lambda(lambda number: torch.full((1,), float(number))), RandShiftIntensity(1.0, prob=1.0)]
        self.cached = CacheDataset(list(range(4)), Compose(transforms), runtime_cache="threads", progress=False)

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> torch.Tensor:
        own = [float(self.cached[index]), random.random(), np.random.rand(), float(torch.rand(()))]
        return torch.tensor([float(index), *own], dtype=torch.float64)


def epochs(numbers: list[int], workers: int, seed: int = 0) -> list[torch.Tensor]:
    items = _Draws()
    sampler = EpochSampler(items, seed=seed)
    loader = DataLoader(SeededItems(items, seed), sampler=sampler, batch_size=2, num_workers=workers, persistent_workers=workers > 0)
    found = []
    for number in numbers:
        sampler.set_epoch(number)
        found.append(torch.cat(list(loader)))
    return found


def test_an_epoch_is_the_same_with_workers_and_after_a_new_start() -> None:
    alone = epochs([1, 2, 3], workers=0)
    assert not torch.equal(alone[0].sort(0).values, alone[1].sort(0).values)
    np.random.seed(5)
    torch.manual_seed(7)
    (last,) = epochs([3], workers=0)
    assert torch.equal(last, alone[2])
    with_workers = epochs([2, 3], workers=2)  # which persist
    assert torch.equal(with_workers[0], alone[1])
    assert torch.equal(with_workers[1], alone[2])


def test_items_and_seeds_draw_differently() -> None:
    one, other = epochs([1], workers=0)[0], epochs([1], workers=0, seed=1)[0]
    for column in (2, 3, 4):
        assert len(set(one[:, column].tolist()) | set(other[:, column].tolist())) == 8
    # neighbours in seed and epoch have orders of their own
    orders = {(seed, number): epochs([number], 0, seed)[0][:, 0].tolist() for seed in range(3) for number in range(3)}
    assert len({tuple(order) for order in orders.values()}) > 5


def test_the_generators_of_the_process_go_on_as_if_nothing_had_been_loaded() -> None:
    torch.manual_seed(3)
    np.random.seed(3)
    random.seed(3)
    expected = (float(torch.rand(())), np.random.rand(), random.random())
    items = SeededItems(_Draws())
    torch.manual_seed(3)
    np.random.seed(3)
    random.seed(3)
    _ = items[EpochIndex(2, 5)]
    assert (float(torch.rand(())), np.random.rand(), random.random()) == expected


def test_plain_indices_draw_anew() -> None:
    items = SeededItems(_Draws())
    assert not torch.equal(items[1], items[1])
    assert torch.equal(items[EpochIndex(1, 1)], items[EpochIndex(1, 1)])


class _Noted(Randomizable):
    """Notes the seed that it gets."""

    def __init__(self) -> None:
        self.seed: int | None = None

    def set_random_state(self, seed: int | None = None, state: np.random.RandomState | None = None) -> "_Noted":
        self.seed = seed
        return self


class _Several(Dataset):
    """Random parts in each place where MONAI looks for them."""

    def __init__(self) -> None:
        self.parts: list[_Noted] = [_Noted() for _ in range(7)]
        self.data: list[Any] = [{"image": 1}, self.parts[0], self.parts[1], {"image": 2}]
        self.transform = Lambda(abs)
        self.first, self.pair, self.plain = self.parts[2], (self.parts[3], self.parts[4]), 3.0
        self.inner = CacheDataset([{"image": 1}], _Holder(self.parts[5]), progress=False)
        self.last = self.parts[6]

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> int:
        return index


class _Holder:
    def __init__(self, held: _Noted) -> None:
        self.held = held

    def __call__(self, item: Any) -> Any:
        return item


def test_every_part_has_the_seed_that_monai_would_give_it() -> None:
    dataset = _Several()
    set_rnd(dataset, draw_seed(4, 2, 0))
    expected = [part.seed for part in dataset.parts]
    assert len(set(expected)) > 3
    for part in dataset.parts:
        part.seed = None
    _ = SeededItems(dataset, 4)[EpochIndex(0, 2)]
    assert [part.seed for part in dataset.parts] == expected


def test_items_are_not_walked_through_for_each_item(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[Any] = []
    walk = draws._randomizable_of

    def noting(obj: Any, offset: int = 0) -> Any:
        looked_at.append(obj)
        return walk(obj, offset)

    monkeypatch.setattr(draws, "_randomizable_of", noting)
    items = SeededItems(CacheDataset([{"image": number} for number in range(50)], Compose([Lambda(dict)]), cache_num=0), 0)
    _ = items[EpochIndex(3, 1)]
    first = len(looked_at)
    assert first > 50
    for number in range(50):
        _ = items[EpochIndex(number, 1)]
    assert len(looked_at) == first
    noted = _Noted()
    items.dataset.transform = _Holder(noted)  # another transform is looked for again
    _ = items[EpochIndex(3, 1)]
    assert noted.seed is not None


def test_an_index_keeps_its_epoch_on_the_way_to_a_worker() -> None:
    index: Any = pickle.loads(pickle.dumps([EpochIndex(3, 7)]))[0]
    assert (index, index.epoch, [10, 11, 12, 13][index]) == (3, 7, 13)


def test_seeds_of_neighbours_differ() -> None:
    seeds = {draw_seed(seed, epoch, item) for seed in range(5) for epoch in range(5) for item in range(5)}
    assert len(seeds) == 125
    assert all(0 <= seed < 2**32 for seed in seeds)


def test_ranks_share_the_items(monkeypatch: Any) -> None:
    shares = []
    for rank in (0, 1):
        monkeypatch.setattr("monai_jdt.training.draws.ranks_here", lambda rank=rank: (rank, 2))
        sampler = EpochSampler(range(6), seed=1)
        sampler.set_epoch(4)
        shares.append(list(sampler))
    monkeypatch.setattr("monai_jdt.training.draws.ranks_here", lambda: (0, 1))
    together = EpochSampler(range(6), seed=1)
    together.set_epoch(4)
    assert [index for pair in zip(*shares, strict=True) for index in pair] == list(together)
