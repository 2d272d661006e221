"""Draw binary samples from a probability."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data.meta_tensor import MetaTensor
from monai.transforms.transform import MapTransform, Transform
from monai.utils import convert_to_tensor

from monai_jdt.functional.drawn_samples import VoxelCoupling, draw_samples
from monai_jdt.transforms.with_meta import with_meta_of
from monai_jdt.validation import check_bool, check_choice, check_int, error_sentence


class DrawSamples(Transform):
    """Draw binary samples from a probability. What they mean: :func:`monai_jdt.functional.drawn_samples.draw_samples`.

    Args:
        samples: M >= 1.
        softmax: whether the channels exclude each other, channel 0 the background.
        coupling: "independent" draws each voxel by itself; "shared" gives the level sets of the map.
        seed: of the draws, the same for each item; None: torch's global generator.

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: `samples` < 1, or an unknown coupling.

    Example:
        >>> DrawSamples(2, coupling="shared")(torch.tensor([[0.0, 0.3, 0.7, 1.0]])).int().tolist()
        [[[0, 1, 1, 1]], [[0, 0, 0, 1]]]
    """

    def __init__(
        self, samples: int, softmax: bool = False, coupling: str | VoxelCoupling = "independent", seed: int | None = 0
    ) -> None:
        if check_int("samples", samples) < 1:
            raise ValueError(error_sentence("samples", "a whole number >= 1", str(samples)))
        self.samples = samples
        self.softmax = check_bool("softmax", softmax)
        self.coupling = check_choice("coupling", coupling, VoxelCoupling)
        self.seed = None if seed is None else check_int("seed", seed)

    def __call__(self, prob: torch.Tensor) -> MetaTensor:
        """Draw.

        Args:
            prob: `(C, *S)` in [0, 1], floating point.

        Returns:
            `(M, C, *S)`, bool, with the affine and meta of the probabilities.

        Raises:
            TypeError: no floating point.
            ValueError: values outside [0, 1], or one channel with `softmax`.
        """
        plain = convert_to_tensor(prob, track_meta=False)
        drawn = draw_samples(plain[None], self.samples, softmax=self.softmax, coupling=self.coupling, seed=self.seed)
        return with_meta_of(prob, drawn[0])


class DrawSamplesd(MapTransform):
    """Dictionary version of :class:`DrawSamples`.

    Args:
        keys: keys of the probabilities.
        samples: see :class:`DrawSamples`.
        softmax: see :class:`DrawSamples`.
        coupling: see :class:`DrawSamples`.
        seed: see :class:`DrawSamples`.
        postfix: the samples of key `pred` are kept under `pred_<postfix>`; None: they take its place.
        allow_missing_keys: leave out a key that the item does not have.

    Raises:
        TypeError: as :class:`DrawSamples`.
        ValueError: as :class:`DrawSamples`.
    """

    def __init__(
        self,
        keys: KeysCollection,
        samples: int,
        softmax: bool = False,
        coupling: str | VoxelCoupling = "independent",
        seed: int | None = 0,
        postfix: str | None = "samples",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.draw = DrawSamples(samples, softmax, coupling, seed)
        self.postfix = postfix

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Draw for each key. The item given is not changed."""
        d = dict(data)
        for key in self.key_iterator(d):
            d[key if self.postfix is None else f"{key}_{self.postfix}"] = self.draw(d[key])
        return d
