"""Seeding a generator again gives the draws that MONAI's own method gives, for every random transform of MONAI and of the package."""

import inspect
import pickle
from typing import Any

import monai.transforms
import numpy as np
import pytest
from monai.transforms import Compose, OneOf, RandAffined, RandFlipd, Randomizable, RandScaleIntensityd, RandZoomd

import monai_jdt.transforms
from monai_jdt.training.reseeding import Reseeded, _random_parts

#: What their arguments need; all others are made with `keys` alone, or with nothing.
ARGUMENTS: dict[str, dict[str, Any]] = {
    "RandAdjustContrast": {"gamma": 2.0},
    "RandCropByLabelClassesd": {"label_key": "image", "spatial_size": 2, "ratios": [1, 1], "num_classes": 2},
    "RandCropByPosNegLabeld": {"label_key": "image", "spatial_size": 2},
    "RandScaleCropd": {"roi_scale": 0.5},
    "RandScaleIntensityd": {"factors": 0.1},
    "RandShiftIntensityd": {"offsets": 0.1},
    "RandSpatialCropd": {"roi_size": 2},
    "RandSpatialCropSamplesd": {"roi_size": 2, "num_samples": 2},
    "RandStdShiftIntensityd": {"factors": 0.1},
    "RandWeightedCropd": {"w_key": "image", "spatial_size": 2},
    "Rand2DElasticd": {"spacing": 2, "magnitude_range": (0, 1)},
    "Rand3DElasticd": {"sigma_range": (1, 2), "magnitude_range": (0, 1)},
}


def made(kind: type) -> Any:
    """Return a transform of a class, or None if it needs arguments that are not listed."""
    keys = {"keys": "image"} if "keys" in inspect.signature(kind).parameters else {}
    try:
        return kind(**keys, **ARGUMENTS.get(kind.__name__, {}))
    except (TypeError, ValueError, ImportError):
        return None


CLASSES = sorted(
    {
        kind
        for module in (monai.transforms, monai_jdt.transforms)
        for kind in vars(module).values()
        if inspect.isclass(kind) and issubclass(kind, Randomizable) and not inspect.isabstract(kind) and made(kind) is not None
    },
    key=lambda kind: kind.__name__,
)


def states_of(random: Any) -> list[tuple[Any, ...]]:
    """Return the states of all generators of an object."""
    return [part.R.get_state(legacy=True) for part in _random_parts(random, set())]


def assert_equal_states(one: Any, other: Any) -> None:
    states = states_of(one), states_of(other)
    assert len(states[0]) == len(states[1]) > 0
    for (_, keys, *rest), (_, others, *other_rest) in zip(*states, strict=True):
        np.testing.assert_array_equal(keys, others)
        assert rest == other_rest


def test_most_random_transforms_are_looked_at() -> None:
    assert len(CLASSES) > 60


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_generators_are_those_of_set_random_state(kind: type) -> None:
    reseeded, expected = Reseeded(made(kind)), made(kind)
    for seed in (3, 3, 2**32 + 5, 0):
        reseeded.seed(seed)
        expected.set_random_state(seed=seed)
        assert_equal_states(reseeded.random, expected)
        # draws in between must not matter
        for part in _random_parts(reseeded.random, set()):
            part.R.random_sample(5)


def test_a_chain_seeds_its_parts_and_those_that_are_added() -> None:
    def chain() -> Compose:
        flip, one = RandFlipd("image", prob=0.5), OneOf([RandScaleIntensityd("image", 0.1), RandZoomd("image", 0.5)])
        return Compose([flip, Compose([one, dict]), abs])

    reseeded, expected = Reseeded(chain()), chain()
    for seed in (1, 8):
        reseeded.seed(seed)
        expected.set_random_state(seed=seed)
        assert_equal_states(reseeded.random, expected)
    for each in (reseeded.random, expected):
        each.transforms = (*each.transforms, RandAffined("image", prob=1.0))
    reseeded.seed(8)
    expected.set_random_state(seed=8)
    assert_equal_states(reseeded.random, expected)


def test_no_generator_is_made_at_the_second_time(monkeypatch: pytest.MonkeyPatch) -> None:
    reseeded = Reseeded(Compose([RandFlipd("image", prob=0.5), RandScaleIntensityd("image", 0.1)]))
    reseeded.seed(1)
    generators = [part.R for part in reseeded.random.transforms]
    monkeypatch.setattr(Randomizable, "set_random_state", None)
    reseeded.seed(2)
    assert all(part.R is generator for part, generator in zip(reseeded.random.transforms, generators, strict=True))


def test_generators_of_somebody_else_are_noticed() -> None:
    # a worker's start seeds all transforms, and gives them new generators
    reseeded, expected = Reseeded(RandZoomd("image", 0.5)), RandZoomd("image", 0.5)
    reseeded.seed(1)
    shared = np.random.RandomState(7)
    reseeded.random.set_random_state(state=shared)
    for each in (reseeded.seed, lambda seed: expected.set_random_state(seed=seed)):
        each(4)
    assert_equal_states(reseeded.random, expected)
    reseeded.random.set_random_state(seed=9)
    reseeded.seed(4)
    assert_equal_states(reseeded.random, expected)


def test_it_goes_to_a_worker() -> None:
    reseeded = Reseeded(Compose([RandFlipd("image", prob=0.5)]))
    reseeded.seed(1)
    there: Reseeded = pickle.loads(pickle.dumps(reseeded))
    for each in (reseeded, there):
        each.seed(5)
    assert_equal_states(reseeded.random, there.random)


class _Own(Randomizable):
    """Not MONAI's: what it does with a seed is its own affair."""

    def set_random_state(self, seed: int | None = None, state: np.random.RandomState | None = None) -> "_Own":
        self.seeds = [*getattr(self, "seeds", []), seed]
        return self


def test_an_object_of_somebody_else_is_seeded_by_its_own_method() -> None:
    reseeded = Reseeded(_Own())
    reseeded.seed(1)
    reseeded.seed(2)
    assert reseeded.random.seeds == [1, 2]
