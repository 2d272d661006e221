"""Sums over the ranks of torch.distributed, with a gradient."""

from __future__ import annotations

import torch
import torch.distributed as dist


@torch.library.custom_op("monai_jdt::sum_over_ranks", mutates_args=())
def _sum_over_ranks(values: torch.Tensor) -> torch.Tensor:
    total = values.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total)
    return total


@_sum_over_ranks.register_fake
def _sum_over_ranks_shape(values: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(values, memory_format=torch.contiguous_format)


def _sum_over_ranks_backward(ctx: object, gradient: torch.Tensor) -> torch.Tensor:
    return _sum_over_ranks(gradient)


_sum_over_ranks.register_autograd(_sum_over_ranks_backward)


def sum_over_ranks(values: torch.Tensor) -> torch.Tensor:
    """The sum of every rank's `values`, on every rank; the values themselves where no process group is set up.

    One all_reduce forward and one backward. Backward sums the ranks' gradients of their (equal) losses, so that a rank's own
    gradient is world_size times its share, which DistributedDataParallel's average over ranks turns into the gradient of one
    process with all the data. Every rank has to call it equally often: a rank that does not leaves the others waiting until the
    group's timeout.

    Args:
        values: any shape, the same on every rank, floating point.

    Returns:
        The sum, of the same shape.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return values
    return _sum_over_ranks(values)
