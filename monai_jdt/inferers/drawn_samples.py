"""Samples drawn from the probability map of one network."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import torch
from monai.inferers import Inferer

from monai_jdt.functional.drawn_samples import VoxelCoupling, draw_samples
from monai_jdt.inferers.sample_inferer import SampleInferer
from monai_jdt.validation import check_choice, check_int, error_sentence


class DrawnSamples(SampleInferer):
    """Samples drawn from the probabilities of one output.

    What the two ways of drawing mean: :func:`~monai_jdt.functional.drawn_samples.draw_samples`.
    Where a prediction is resampled before it is compared, :class:`monai_jdt.transforms.DrawSamplesd` draws from the resampled
    probability.

    Args:
        samples: M >= 1.
        coupling: "independent" draws each voxel by itself; "shared" gives the level sets of the map.
        seed: of the draws, the same for each image; None: torch's global generator.
        inferer: see :class:`SampleInferer`, as all that follow.
        sigmoid: see there.
        softmax: see there. Channel 0 is the background.
        merge_channels: see there.

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: `samples` < 1, or an unknown coupling; at a call, values outside [0, 1].

    Example:
        >>> p = torch.tensor([[[0.0, 0.3, 0.7, 1.0]]])
        >>> DrawnSamples(2, coupling="shared")(p, lambda image: image).int().tolist()
        [[[[0, 1, 1, 1]], [[0, 0, 0, 1]]]]
    """

    def __init__(
        self,
        samples: int,
        inferer: Inferer | None = None,
        *,
        coupling: str | VoxelCoupling = "independent",
        seed: int | None = 0,
        sigmoid: bool = False,
        softmax: bool = False,
        merge_channels: bool = False,
    ) -> None:
        super().__init__(inferer, sigmoid=sigmoid, softmax=softmax, merge_channels=merge_channels)
        if check_int("samples", samples) < 1:
            raise ValueError(error_sentence("samples", "a whole number >= 1", str(samples)))
        self.samples = samples
        self.coupling = check_choice("coupling", coupling, VoxelCoupling)
        self.seed = None if seed is None else check_int("seed", seed)

    def outputs(self, inputs: torch.Tensor, network: Callable, *args: Any, **kwargs: Any) -> Generator[torch.Tensor]:
        """Yield the one output.

        Args:
            inputs: images `(N, channels, *S)`.
            network: makes an output of an image, or of a patch.
            args: further arguments of the network.
            kwargs: further arguments of the network.
        """
        yield self.inferer(inputs, network, *args, **kwargs)

    def samples_of(self, prob: torch.Tensor) -> torch.Tensor:
        """Draw.

        Args:
            prob: `(N, C, *S)`.
        """
        return draw_samples(prob, self.samples, softmax=self.softmax, coupling=self.coupling, seed=self.seed)
