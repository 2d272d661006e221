"""Rows of scores of all ranks, whichever rank has how many."""

from __future__ import annotations

import torch
import torch.distributed as dist


def rows_of_all_ranks(rows: torch.Tensor | None) -> torch.Tensor | None:
    """Return the rows of every rank, in the order of the ranks, or `rows` itself where no process group is set up.

    Each rank takes part, one without a row too: MONAI's gathering leaves it out, and the others then wait until the group's timeout.

    Args:
        rows: `(n, ...)`, n may differ from rank to rank; None: this rank has none, and does not know the other dimensions.

    Returns:
        `(sum of n, ...)`; None where no rank has any.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return rows
    every: list[torch.Tensor | None] = [None] * dist.get_world_size()
    dist.all_gather_object(every, None if rows is None else rows.cpu())
    found = [part for part in every if part is not None]
    if not found:
        return None
    together = torch.cat(found)
    return together if rows is None else together.to(rows.device)
