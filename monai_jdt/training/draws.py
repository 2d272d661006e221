"""Random draws that follow from the seed and the epoch alone, however often a training was interrupted and whoever loads its data."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from monai.data import DistributedSampler
from monai.utils import MAX_SEED
from torch.utils.data import Dataset

from monai_jdt.training.reseeding import Reseeded


def ranks_here() -> tuple[int, int]:
    """Return the rank of this process and the number of ranks: 0 and 1 without a process group.

    `ignite.distributed` would set itself up at its first use, and wait for all ranks.
    """
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def draw_seed(*numbers: int) -> int:
    """Return a seed below 2^32 that follows from whole numbers >= 0, such as seed, epoch and index.

    Args:
        numbers: their order matters. :class:`numpy.random.SeedSequence` mixes them, so that neighbours have unlike draws.

    Example:
        >>> draw_seed(0, 1) == draw_seed(0, 1), draw_seed(0, 1) == draw_seed(1, 0)
        (True, False)
    """
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def seed_everything(seed: int) -> None:
    """Seed Python's, NumPy's and PyTorch's generators, those of every GPU in use among them.

    `torch.manual_seed` would note a traceback for GPUs that are not in use, which takes 0.2 ms of every step.

    Args:
        seed: below 2^32.
    """
    random.seed(seed)
    np.random.seed(seed)
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)
    if torch.backends.mps.is_available():
        torch.mps.manual_seed(seed)


class EpochIndex(int):
    """The index of an item, and the epoch in which it is asked for. It is a plain number for whoever does not look for the epoch."""

    epoch: int

    def __new__(cls, index: int, epoch: int = 0) -> EpochIndex:
        """Make it of both numbers."""
        made = super().__new__(cls, index)
        made.epoch = epoch
        return made

    def __reduce__(self) -> tuple[type[EpochIndex], tuple[int, int]]:
        """Keep the epoch on the way to a worker process."""
        return EpochIndex, (int(self), self.epoch)


class EpochSampler(DistributedSampler):
    """Shuffle the items anew in each epoch, by seed and epoch. Each rank of `torch.distributed` gets its own items.

    MONAI's trainers tell a sampler of this kind the epoch. Every rank gets equally many items, some twice if need be: a loss with
    `sync` waits for all ranks.

    Args:
        dataset: the items.
        seed: >= 0.
        shuffle: False: in their order.

    Example:
        >>> sampler = EpochSampler(range(5), seed=0)
        >>> sampler.set_epoch(1)
        >>> first = list(sampler)
        >>> sorted(first), first == list(sampler), first[0].epoch
        ([0, 1, 2, 3, 4], True, 1)
    """

    def __init__(self, dataset: Any, seed: int = 0, shuffle: bool = True) -> None:
        # torch adds the epoch to the seed: without mixing, seed 0 would have in epoch 2 the order of seed 1 in epoch 1
        rank, count = ranks_here()
        super().__init__(dataset, num_replicas=count, rank=rank, shuffle=shuffle, seed=draw_seed(seed))

    def __iter__(self) -> Iterator[EpochIndex]:
        """Yield the indices of this epoch."""
        epoch = self.epoch
        for index in super().__iter__():
            yield EpochIndex(index, epoch)


class SeededItems(Dataset):
    """A data set whose random transforms draw by seed, epoch and item.

    An item is the same whichever process loads it: with any number of workers, persistent or not, and after a training was resumed. It
    takes the epoch from the indices of :class:`EpochSampler`. With other indices the transforms draw as they would without it.

    MONAI's transforms have generators of their own, which are seeded. Others may draw from the generators of Python, NumPy and PyTorch,
    which are seeded for the item and get their states back afterwards.

    Args:
        dataset: such as :class:`monai.data.CacheDataset`, or one that holds others. What is random in it is found at the first item.
        seed: >= 0.
    """

    def __init__(self, dataset: Any, seed: int = 0) -> None:
        self.dataset = dataset
        self.seed = seed
        self._seen: tuple[Any, Any] | None = None
        self._randomizable: list[tuple[Reseeded, int]] = []

    def __len__(self) -> int:
        """Return the number of items."""
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        """Return an item."""
        if not isinstance(index, EpochIndex):
            return self.dataset[index]
        seed = draw_seed(self.seed, index.epoch, int(index))
        self._look()
        for reseeded, offset in self._randomizable:
            reseeded.seed((seed + offset) % MAX_SEED)
        with _own_generators(seed):
            return self.dataset[int(index)]

    def _look(self) -> None:
        """Find what is random, once, and again where the data set or its transform is another one."""
        here = self.dataset, getattr(self.dataset, "transform", None)
        if self._seen is None or any(one is not other for one, other in zip(here, self._seen, strict=True)):
            self._seen = here
            self._randomizable = [(Reseeded(found), offset) for found, offset in _randomizable_of(self.dataset)[0]]


def _randomizable_of(obj: Any, offset: int = 0) -> tuple[list[tuple[Any, int]], int]:
    """Return what :func:`monai.data.utils.set_rnd` would seed in an object, each with what it would add to the seed, and the next sum.

    That function walks through all items of a data set, which with ten thousand of them takes longer than to load one.
    """
    if isinstance(obj, tuple | list):
        found: list[tuple[Any, int]] = []
        changed = False
        for item in obj:
            # those in a list have the same seed
            inside, after = _randomizable_of(item, offset)
            found += inside
            changed = after != offset
        return found, offset + changed
    if not hasattr(obj, "__dict__"):
        return [], offset
    if hasattr(obj, "set_random_state"):
        return [(obj, offset)], offset + 1
    found = []
    for key, value in vars(obj).items():
        if not key.startswith("__"):
            inside, offset = _randomizable_of(value, offset)
            found += inside
    return found, offset


@contextmanager
def _own_generators(seed: int) -> Iterator[None]:
    """Seed the generators of the CPU, and give them their states back: without workers, the network's draws come from them, too."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(seed)
    np.random.seed(seed)
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
