"""Seed MONAI's random transforms anew for each item, without a new generator for each.

:meth:`monai.transforms.Randomizable.set_random_state` makes a generator, whose first state comes from the operating system, and two for
most transforms. To seed the generator that is there takes a few hundredths of that time. The draws are the same.
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
        self._generators: list[tuple[Any, np.random.RandomState]] | None = None
        self._inside: list[Reseeded] = []

    def seed(self, seed: int) -> None:
        """Do what `set_random_state(seed=seed)` does."""
        if type(self.random).__module__.partition(".")[0] not in ("monai", "monai_jdt"):
            self.random.set_random_state(seed=seed)
            return
        if self._generators is None:
            self._generators = self._look()
        if not self._generators:
            self.random.set_random_state(seed=seed)
            return
        for place, (part, generator) in enumerate(self._generators):
            if part.R is not generator:
                # somebody else's, perhaps given to others, too
                part.R = generator = np.random.RandomState()
                self._generators[place] = part, generator
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

    def _look(self) -> list[tuple[Any, np.random.RandomState]]:
        """Return the parts whose generators get the seed unchanged, with these. If there are others as well, return none."""
        self.random.set_random_state(seed=_TRIAL)
        # the one generator of a `Compose` has drawn already
        parts = [self.random] if _is_compose(self.random) else list(_random_parts(self.random, set()))
        alike = _is_compose(self.random) or all(_same_state(part.R, np.random.RandomState(_TRIAL)) for part in parts)
        return [(part, part.R) for part in parts] if alike and len({id(part.R) for part in parts}) == len(parts) else []


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
