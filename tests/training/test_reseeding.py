"""Seeding a generator again gives the draws that MONAI's own method gives, for every random transform of MONAI and of the package."""

import gc
import inspect
import pickle
from types import FunctionType, ModuleType
from typing import Any

import monai.transforms
import numpy as np
import pytest
from monai.transforms import Compose, OneOf, RandAffined, RandFlipd, Randomizable, RandScaleIntensityd, RandSpatialCrop, RandZoomd

import monai_jdt.transforms
from monai_jdt.training.reseeding import Reseeded

FIELD = {"spatial_size": (4, 4), "rand_size": (2, 2)}
#: What their arguments need, by the name of the array transform. All others are made with `keys` alone, or with nothing.
ARGUMENTS: dict[str, dict[str, Any]] = {
    "AddExtremePointsChannel": {"label_key": "image"},
    **{key: {"batch_size": 2} for key in ["CutMix", "CutOut", "MixUp"]},
    "Rand2DElastic": {"spacing": 2, "magnitude_range": (0, 1)},
    "Rand3DElastic": {"sigma_range": (1, 2), "magnitude_range": (0, 1)},
    "RandAdjustContrast": {"gamma": 2.0},
    **{key: {"holes": 1, "spatial_size": 2} for key in ["RandCoarseDropout", "RandCoarseShuffle"]},
    "RandCrop": {"cropper": RandSpatialCrop(2)},
    "RandCropByLabelClasses": {"label_key": "image", "spatial_size": 2, "ratios": [1, 1], "num_classes": 2},
    "RandCropByPosNegLabel": {"label_key": "image", "spatial_size": 2},
    "RandDeformGrid": {"spacing": 2, "magnitude_range": (0, 1)},
    "RandGridPatch": {"patch_size": (2, 2)},
    "RandImageFilter": {"kernel": "mean", "kernel_size": 3, "filter": "mean", "filter_size": 3},
    "RandLambda": {"func": abs},
    "RandScaleCrop": {"roi_scale": 0.5},
    **{key: {"factors": 0.1} for key in ["RandScaleIntensity", "RandScaleIntensityFixedMean", "RandStdShiftIntensity"]},
    "RandShiftIntensity": {"offsets": 0.1},
    **dict.fromkeys(["RandSmoothDeform", "RandSmoothFieldAdjustContrast", "RandSmoothFieldAdjustIntensity"], FIELD),
    "RandSpatialCrop": {"roi_size": 2},
    "RandSpatialCropSamples": {"roi_size": 2, "num_samples": 2},
    "RandWeightedCrop": {"w_key": "image", "spatial_size": 2},
    "SmoothField": {"rand_size": (2, 2)},
}


def made(kind: type) -> Any:
    """Return a transform of a class."""
    parameters = inspect.signature(kind).parameters
    given = ARGUMENTS.get(kind.__name__, ARGUMENTS.get(kind.__name__.removesuffix("d"), {})) | {"keys": "image"}
    return kind(**{name: value for name, value in given.items() if name in parameters})


CLASSES = sorted(
    {
        kind
        for module in (monai.transforms, monai_jdt.transforms)
        for kind in vars(module).values()
        if inspect.isclass(kind) and issubclass(kind, Randomizable) and not inspect.isabstract(kind)
    },
    key=lambda kind: kind.__name__,
)


def generators_of(random: Any) -> list[np.random.RandomState]:
    """Return all generators that an object refers to, by whatever way, in one order."""
    found, seen, waiting = [], {id(random)}, [random]
    while waiting:
        one = waiting.pop()
        if isinstance(one, np.random.RandomState):
            found.append(one)
        elif not isinstance(one, type | ModuleType | FunctionType):
            fresh = [each for each in gc.get_referents(one) if id(each) not in seen]
            seen.update(map(id, fresh))
            waiting += fresh
    return found


def states_of(random: Any) -> list[Any]:
    """Return the states of all generators of an object."""
    return [generator.get_state(legacy=True) for generator in generators_of(random)]


def assert_equal_states(one: Any, other: Any) -> None:
    states = states_of(one), states_of(other)
    assert len(states[0]) == len(states[1]) > 0
    for (_, keys, *rest), (_, others, *other_rest) in zip(*states, strict=True):
        np.testing.assert_array_equal(keys, others)
        assert rest == other_rest


def test_most_random_transforms_are_looked_at() -> None:
    assert len(CLASSES) > 100


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_generators_are_those_of_set_random_state(kind: type) -> None:
    reseeded, expected = Reseeded(made(kind)), made(kind)
    for seed in (3, 3, 2**32 + 5, 0):
        reseeded.seed(seed)
        expected.set_random_state(seed=seed)
        assert_equal_states(reseeded.random, expected)
        # draws in between must not matter
        for generator in generators_of(reseeded.random):
            generator.random_sample(5)
            generator.normal()  # keeps a second one


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


def test_one_object_in_two_places() -> None:
    """In two data sets, or twice in a chain: each place finds the generators that the other has left."""
    expected, shared = RandZoomd("image", 0.5), RandZoomd("image", 0.5)
    first, second = Reseeded(shared), Reseeded(shared)
    for seed in (1, 2, 3):
        for each in (first, second):
            each.seed(seed)
            expected.set_random_state(seed=seed)
            assert_equal_states(shared, expected)
    flip, other = RandFlipd("image", prob=0.5), RandFlipd("image", prob=0.5)
    twice, both = Reseeded(Compose([flip, flip])), Compose([other, other])
    for seed in (1, 2, 3):
        twice.seed(seed)
        both.set_random_state(seed=seed)
        assert_equal_states(twice.random, both)


def test_parts_that_were_given_one_generator_have_their_own_again() -> None:
    reseeded, expected = (Compose([RandFlipd("image", prob=0.5), RandScaleIntensityd("image", 0.1)]) for _ in range(2))
    seeding = Reseeded(reseeded)
    seeding.seed(1)
    shared = np.random.RandomState(7)
    for part in reseeded.transforms:
        part.R = shared
    seeding.seed(2)
    expected.set_random_state(seed=2)
    assert_equal_states(reseeded, expected)


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
