"""Sums over the ranks of torch.distributed, with a gradient."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist

from monai_jdt.validation import error_sentence

#: The name of the group of all ranks.
WORLD = ""


def group_name(group: Any) -> str:
    """Return the name of a process group. Unlike the group, it can be copied, pickled and traced.

    Args:
        group: a process group, or what `torch.distributed.new_group` returns on a rank that is not in it; None for all ranks.

    Raises:
        TypeError: anything else.
    """
    if group is None:
        return WORLD
    if dist.is_available():
        if group is dist.GroupMember.NON_GROUP_MEMBER:
            return _NOT_A_MEMBER
        if isinstance(group, dist.ProcessGroup):
            return group.group_name
    fix = "pass torch.distributed.new_group(ranks), or mesh.get_group() of a device mesh"
    raise TypeError(error_sentence("group", "a torch.distributed process group, or None for all ranks", type(group).__name__, fix))


_NOT_A_MEMBER = "this rank is in none"


def group_of_name(name: str) -> Any:
    """Return the process group of a name by :func:`group_name`, or None for WORLD.

    Args:
        name: from :func:`group_name`.

    Raises:
        ValueError: no such group in this process, or one that this rank is not in.
    """
    if name == WORLD:
        return None
    if name == _NOT_A_MEMBER:
        got, fix = "one that this rank is not in", "call the loss on the ranks of its group alone"
        raise ValueError(error_sentence("group", "a process group with this rank", got, fix))
    try:
        return dist.distributed_c10d._resolve_process_group(name)  # type: ignore[arg-type]
    except (RuntimeError, ValueError, KeyError) as error:
        fix = "set loss.group to a group of this process"
        raise ValueError(error_sentence("group", "a process group of this process", f"the name {name!r}", fix)) from error


def check_own_parts(group: str | None, **tensors: Any) -> None:
    """Refuse a distributed tensor over ranks whose sums are added.

    A loss gathers a DTensor, so that every rank has the whole of it. Added over the same ranks, the whole would count once per rank,
    with a fraction of the smoothing. A DTensor over other ranks, such as those of tensor parallelism, is welcome.

    Args:
        group: the group that `sync` adds, by :func:`group_name`; None without `sync`.
        **tensors: by argument name; whatever is not distributed passes.

    Raises:
        ValueError: a tensor that is distributed over two or more ranks of the group.
    """
    if group is None:
        return
    for name, tensor in tensors.items():
        mesh = getattr(tensor, "device_mesh", None)
        if mesh is None:
            continue
        added = dist.get_process_group_ranks(group_of_name(group) or dist.group.WORLD)
        if len(set(added) & set(mesh.mesh.flatten().tolist())) > 1:
            got = "a DTensor over the ranks that sync adds, which is gathered whole on each of them"
            fix = f"pass {name}.to_local() on every rank, or sync=False"
            raise ValueError(error_sentence(name, "this rank's own part with sync=True", got, fix))


@torch.library.custom_op("monai_jdt::sum_over_ranks", mutates_args=())
def _sum_over_ranks(values: torch.Tensor, group: str) -> torch.Tensor:
    total = values.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total, group=group_of_name(group))
    return total


@_sum_over_ranks.register_fake
def _sum_over_ranks_shape(values: torch.Tensor, group: str) -> torch.Tensor:
    return torch.empty_like(values, memory_format=torch.contiguous_format)


def _keep_group(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    ctx.group = inputs[1]


def _sum_over_ranks_backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
    return _sum_over_ranks(gradient, ctx.group), None


_sum_over_ranks.register_autograd(_sum_over_ranks_backward, setup_context=_keep_group)


def sum_over_ranks(values: torch.Tensor, group: str = WORLD) -> torch.Tensor:
    """Return the sum of `values` over a group's ranks, on each of them. Without a process group, return the values themselves.

    One all_reduce forward and one backward. Backward sums the ranks' gradients of their (equal) losses, so that a rank's own
    gradient is the group's size times its share, which DistributedDataParallel's average over these ranks turns into the gradient of
    one process with all the data. Every rank of the group has to call it equally often: a rank that does not leaves the others waiting
    until the group's timeout.

    Args:
        values: any shape, the same on every rank, floating point.
        group: a group's name by :func:`group_name`.

    Returns:
        The sum, of the same shape.

    Raises:
        ValueError: a group that this rank is not in, or that this process does not have.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return values
    if not torch.compiler.is_compiling():
        group_of_name(group)  # an error here is one line; from within the operator it would be a page
    return _sum_over_ranks(values, group)
