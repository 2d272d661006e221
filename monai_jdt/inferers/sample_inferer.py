"""What every source of samples shares: an inferer for one output, its activation, the decision, and the stack `(N, M, C, *S)`."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Generator
from contextlib import closing
from enum import Enum
from typing import Any

import torch
from monai.data.meta_tensor import MetaTensor
from monai.inferers import Inferer, SimpleInferer

from monai_jdt.inferers.module_modes import module_modes
from monai_jdt.plain_tensors import plain_tensor
from monai_jdt.transforms import DecideMask
from monai_jdt.validation import check_bool, check_choice, error_sentence


class SampleKind(Enum):
    """What a sample is: a binary mask, or the probability that the mask would be decided of."""

    MASK = "mask"
    PROBABILITY = "probability"


class SampleInferer(Inferer):
    """An inferer whose result holds several samples. Subclasses define :meth:`outputs`.

    Args:
        inferer: how one output is made of an image, e.g. :class:`monai.inferers.SlidingWindowInferer`; None: one call of the network.
        sigmoid: apply it to each output.
        softmax: apply it to each output, over the channels. With neither, outputs are probabilities already.
        decide: makes a mask `(C, *S)` of a probability `(C, *S)`. None: a threshold of .5, with `softmax` the largest channel.
        kind: "mask": samples are binary, bool. "probability": they are what would be decided, in the dtype of the output, float32 or
            wider: for their mean, and for a decision after resampling.
        merge_channels: True: `(N, M C, *S)`, which MONAI's spatial transforms take, such as the inverse of a resampling. Then
            `samples.unflatten(0, (M, C))` of an item is what a metric takes.

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: both `sigmoid` and `softmax`, an unknown kind, or `decide` with probabilities.
    """

    def __init__(
        self,
        inferer: Inferer | None = None,
        *,
        sigmoid: bool = False,
        softmax: bool = False,
        decide: Callable[[torch.Tensor], torch.Tensor] | None = None,
        kind: str | SampleKind = "mask",
        merge_channels: bool = False,
    ) -> None:
        super().__init__()
        self.inferer = SimpleInferer() if inferer is None else inferer
        self.sigmoid, self.softmax = check_bool("sigmoid", sigmoid), check_bool("softmax", softmax)
        if sigmoid and softmax:
            raise ValueError(error_sentence("sigmoid, softmax", "at most one of them", "both", "leave one out"))
        self.kind = check_choice("kind", kind, SampleKind)
        if self.kind is SampleKind.PROBABILITY and decide is not None:
            raise ValueError(error_sentence("decide", "None with kind='probability'", repr(decide), "leave it out"))
        self.decide = DecideMask("threshold", softmax=softmax) if decide is None else decide
        self.merge_channels = check_bool("merge_channels", merge_channels)

    @abstractmethod
    def outputs(self, inputs: torch.Tensor, network: Callable, *args: Any, **kwargs: Any) -> Generator[torch.Tensor]:
        """Yield the outputs `(N, C, *S)`, one for each sample.

        Args:
            inputs: images `(N, channels, *S)`.
            network: makes an output of an image, or of a patch.
            args: further arguments of the network.
            kwargs: further arguments of the network.
        """

    def __call__(self, inputs: torch.Tensor, network: Callable, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Make the samples, without gradients, and with the network in evaluation mode where the source does not say otherwise.

        Args:
            inputs: images `(N, channels, *S)`.
            network: makes an output of an image, or of a patch.
            args: further arguments of the network.
            kwargs: further arguments of the network.

        Returns:
            `(N, M, C, *S)`, or `(N, M C, *S)`; a MetaTensor with the output's affine and meta, if that is one.

        Raises:
            TypeError: outputs that are no tensors.
        """
        found, last = [], None
        # closed at once, also after an exception: else modes and random numbers stay changed as long as the traceback lives
        with torch.no_grad(), module_modes(network), closing(self.outputs(inputs, network, *args, **kwargs)) as outputs:
            for last in outputs:
                found.append(self.samples_of(self.probability(last)))
        samples = torch.cat(found, 1)
        samples = samples.flatten(1, 2) if self.merge_channels else samples
        return MetaTensor(samples, device=samples.device).copy_meta_from(last) if isinstance(last, MetaTensor) else samples

    def probability(self, output: Any) -> torch.Tensor:
        """Return an output as probabilities, plain, float32 or wider.

        Args:
            output: `(N, C, *S)`.

        Raises:
            TypeError: no tensor.
        """
        plain = plain_tensor("output of the network", output)
        plain = plain if plain.dtype is torch.float64 else plain.to(torch.float32)
        return plain.sigmoid() if self.sigmoid else plain.softmax(1) if self.softmax else plain

    def samples_of(self, prob: torch.Tensor) -> torch.Tensor:
        """Return the samples `(N, m, C, *S)` of one output: one, unless a subclass draws several.

        Args:
            prob: `(N, C, *S)`.
        """
        if self.kind is SampleKind.PROBABILITY:
            return prob[:, None]
        masks = [plain_tensor("result of decide", self.decide(p)) > 0.5 for p in prob]
        return (torch.stack(masks) if masks else prob > 0.5)[:, None]
