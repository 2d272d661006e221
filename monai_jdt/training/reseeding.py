"""Seed MONAI's random transforms anew for each item, without a new generator for each.

:meth:`monai.transforms.Randomizable.set_random_state` makes a generator, whose first state comes from the operating system: 0.1 to
0.2 ms, and two for most transforms. To seed the generator that is there takes 2 us. The draws are the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from monai.transforms import Compose, Randomizable, Transform
from monai.utils import MAX_SEED

#: Any seed, to find out which generators a transform seeds with what it gets.
_TRIAL = 20_231_019


class Reseeded:
    """One random object, such as a :class:`monai.transforms.Compose` or an object of your own, which is seeded many times.

    Args:
        random: an object with `set_random_state`. Objects that are not MONAI's are seeded by that method alone.

    Example:
        >>> from monai.transforms import RandFlipd
        >>> flip = RandFlipd("image", prob=0.5)
        >>> Reseeded(flip).seed(3)
        >>> found = flip.R.random_sample()
        >>> found == flip.set_random_state(seed=3).R.random_sample()
        True
    """

    def __init__(self, random: Any) -> None:
        self.random = random
        self._generators: list[tuple[Any, np.random.RandomState]] = []
        self._inside: list[Reseeded] = []
        self._looked = False

    def seed(self, seed: int) -> None:
        """Do what `set_random_state(seed=seed)` does."""
        if type(self.random).__module__.partition(".")[0] not in ("monai", "monai_jdt"):
            self.random.set_random_state(seed=seed)
            return
        if not self._looked or any(part.R is not generator for part, generator in self._generators):
            # at the first time, or somebody else has given it other generators
            self._look()
        if not self._generators:
            self.random.set_random_state(seed=seed)
            return
        for _, generator in self._generators:
            generator.seed(seed % MAX_SEED)
        if _is_compose(self.random):
            self._seed_inside()

    def _seed_inside(self) -> None:
        """Seed the parts of a `Compose` by its own draws, as it does. Parts may have been added since."""
        parts = [part for part in self.random.transforms if isinstance(part, Randomizable)]
        if len(parts) != len(self._inside) or any(new.random is not part for new, part in zip(self._inside, parts, strict=True)):
            self._inside = [Reseeded(part) for part in parts]
        for inside in self._inside:
            inside.seed(int(self.random.R.randint(MAX_SEED, dtype="uint32")))

    def _look(self) -> None:
        """Find the generators that get the seed unchanged. If others are there as well, there are none."""
        self._looked = True
        self.random.set_random_state(seed=_TRIAL)
        if _is_compose(self.random):
            # its one generator has drawn already
            self._generators = [(self.random, self.random.R)]
            return
        parts = list(_random_parts(self.random, set()))
        generators = {id(part.R): (part, part.R) for part in parts}
        alike = all(_same_state(generator, np.random.RandomState(_TRIAL)) for _, generator in generators.values())
        self._generators = list(generators.values()) if alike and len(generators) == len(parts) else []


def _is_compose(random: Any) -> bool:
    return type(random).set_random_state is Compose.set_random_state


def _random_parts(obj: Any, seen: set[int]) -> Iterator[Any]:
    """Yield an object and what is random in its attributes, and in theirs."""
    if id(obj) in seen:
        return
    seen.add(id(obj))
    if isinstance(obj, list | tuple | dict):
        for value in obj.values() if isinstance(obj, dict) else obj:
            yield from _random_parts(value, seen)
    elif isinstance(obj, Transform | Randomizable):
        if isinstance(obj, Randomizable):
            yield obj
        yield from _random_parts(vars(obj), seen)


def _same_state(one: np.random.RandomState, other: np.random.RandomState) -> bool:
    (_, keys, place, *rest), (_, others, other_place, *other_rest) = one.get_state(legacy=True), other.get_state(legacy=True)
    return place == other_place and rest == other_rest and bool(np.array_equal(keys, others))
