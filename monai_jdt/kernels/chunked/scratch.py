"""Where the chunked kernel's voxels and temporaries are: views of the voxels at hand, and memory that is used again."""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import torch


class ChunkView(NamedTuple):
    """Some voxels of some images. Those of one image are cut into slices.

    Torch gives each thread a share of the outermost dimension. With slices there, a core keeps the same voxels in every operation.
    """

    images: slice
    voxels: slice
    #: More than 1 with one image only; divides the number of voxels.
    slices: int

    def of(self, values: torch.Tensor) -> torch.Tensor:
        """Return a view of these voxels.

        Args:
            values: `(N, L, V)`.

        Returns:
            `(n, L, v)`, or `(slices, L, v / slices)`.
        """
        part = values[self.images, :, self.voxels]
        return part if self.slices == 1 else part[0].unflatten(1, (self.slices, -1)).transpose(0, 1)


class Scratch:
    """Memory for temporaries, by name: fresh memory costs more than the arithmetic.

    One name is one buffer, which grows to the largest shape that was asked for. Whoever takes a name twice writes over the first: the
    docstrings of `kernel` say which names a function writes. A scratch belongs to one call and one thread.

    Args:
        dtype: of the temporaries, float32 or float64.
        channels: C.
    """

    def __init__(self, dtype: torch.dtype, channels: int) -> None:
        self.dtype = dtype
        self._integers = torch.int64 if dtype is torch.float64 else torch.int32
        self._memory: dict[str, torch.Tensor] = {}
        self._views: dict[tuple[str, torch.Size], torch.Tensor] = {}
        self._channels = channels

    @cached_property
    def class_numbers(self) -> torch.Tensor:
        """`(1, C, 1)`: 0 to C - 1, or of one channel 1."""
        return torch.arange(self._channels, dtype=self.dtype, device="cpu").reshape(1, -1, 1) + (self._channels == 1)

    def take(self, name: str, shape: torch.Size) -> torch.Tensor:
        """Return memory of a shape, uninitialised and contiguous.

        Args:
            name: the same name is the same memory.
            shape: how to see it.

        Returns:
            The memory, not cleared.
        """
        view = self._views.get((name, shape))
        if view is not None:
            return view
        memory = self._memory.get(name)
        if memory is None or memory.numel() < shape.numel():
            if memory is not None:
                # views of the smaller buffer would keep it alive, and be given out beside the larger one
                self._views = {key: other for key, other in self._views.items() if key[0] != name}
            view = self._memory[name] = torch.empty(shape, dtype=self.dtype, device="cpu")
        else:
            view = memory.view(-1)[: shape.numel()].view(shape)
        self._views[name, shape] = view
        return view

    def over_channels(self, name: str, values: torch.Tensor) -> torch.Tensor:
        """Return sums over channels.

        Args:
            name: as for :meth:`take`.
            values: `(n, C, v)`.

        Returns:
            `(n, 1, v)`.
        """
        # A product with a row of ones would be faster, but torch computes it in bfloat16 after
        # `torch.set_float32_matmul_precision("medium")`: three digits.
        return torch.sum(values, 1, keepdim=True, out=self.take(name, values[:, :1].shape))

    def keep(self, name: str, values: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
        """Return the values, and 0 where they are not kept, whatever they are there, NaN included.

        Args:
            name: as for :meth:`take`.
            values: `(n, C, v)`, of this dtype.
            kept: from :meth:`bits`.

        Returns:
            `(n, C, v)`.
        """
        result = self.take(name, values.shape)
        # `torch.where` takes ten times as long; a product with 0 would keep NaN
        torch.bitwise_and(values.view(self._integers), kept, out=result.view(self._integers))
        return result

    def bits(self, chosen: torch.Tensor) -> torch.Tensor:
        """Return all bits of a number where True, none where False, as :meth:`keep` wants them.

        Args:
            chosen: bool, `(n, 1, v)` or `(n, C, v)`.

        Returns:
            Integers, in that shape.
        """
        bits = self.take("bits", chosen.shape).view(self._integers)
        return bits.copy_(chosen).neg_()
