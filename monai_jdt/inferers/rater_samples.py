"""Samples of a network that predicts each rater."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import torch
from monai.inferers import Inferer

from monai_jdt.inferers.sample_inferer import SampleInferer, SampleKind
from monai_jdt.validation import check_int, error_sentence


class RaterSamples(SampleInferer):
    """One sample for each rater, of a network that predicts what each one would mark. Sample r is rater r's.

    Args:
        raters: R >= 1.
        argument: the name of the network's argument that says which rater, 0 to R - 1: the network is called for each. None: one call
            gives all raters, as a tensor `(N, R C, *S)`, rater by rater, or as a sequence of R tensors `(N, C, *S)`.
        inferer: see :class:`SampleInferer`, as all that follow.
        sigmoid: see there.
        softmax: see there, over the channels of one rater.
        decide: see there.
        kind: see there.
        merge_channels: see there.

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: `raters` < 1; at a call, an output that cannot be shared out among R raters.

    Example:
        >>> heads = torch.tensor([[[0.9, 0.2], [0.9, 0.8]]])  # two raters of one channel
        >>> RaterSamples(2)(heads, lambda image: image).int().tolist()
        [[[[1, 0]], [[1, 1]]]]
    """

    def __init__(
        self,
        raters: int,
        inferer: Inferer | None = None,
        *,
        argument: str | None = None,
        sigmoid: bool = False,
        softmax: bool = False,
        decide: Callable[[torch.Tensor], torch.Tensor] | None = None,
        kind: str | SampleKind = "mask",
        merge_channels: bool = False,
    ) -> None:
        super().__init__(inferer, sigmoid=sigmoid, softmax=softmax, decide=decide, kind=kind, merge_channels=merge_channels)
        if check_int("raters", raters) < 1:
            raise ValueError(error_sentence("raters", "a whole number >= 1", str(raters)))
        self.raters, self.argument = raters, argument

    def outputs(self, inputs: torch.Tensor, network: Callable, *args: Any, **kwargs: Any) -> Generator[torch.Tensor]:
        """Yield one output per rater.

        Args:
            inputs: images `(N, channels, *S)`.
            network: predicts the raters.
            args: further arguments of the network.
            kwargs: further arguments of the network.
        """
        if self.argument is not None:
            for rater in range(self.raters):
                yield self.inferer(inputs, network, *args, **{**kwargs, self.argument: rater})
            return
        every = self.inferer(inputs, network, *args, **kwargs)
        if isinstance(every, list | tuple):
            if len(every) != self.raters:
                raise ValueError(error_sentence("output of the network", f"{self.raters} outputs, one for each rater", str(len(every))))
            yield from every
        elif every.shape[1] % self.raters:
            expected = f"a number of channels that {self.raters} raters share"
            raise ValueError(error_sentence("output of the network", expected, str(every.shape[1])))
        else:
            yield from every.chunk(self.raters, 1)
