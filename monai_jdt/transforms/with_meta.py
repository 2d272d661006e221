"""Carry the affine and metadata of a transform's input over to its result."""

from __future__ import annotations

from typing import Any

import torch
from monai.data.meta_tensor import MetaTensor


def with_meta_of(source: Any, value: torch.Tensor) -> MetaTensor:
    """Return `value` as a MetaTensor with the affine, meta and applied operations of `source`, if that is a MetaTensor."""
    # MONAI moves a tensor without `device` to the default device
    if isinstance(source, MetaTensor):
        meta, operations = dict(source.meta), list(source.applied_operations)
        return MetaTensor(value, meta=meta, applied_operations=operations, device=value.device)
    return MetaTensor(value, device=value.device)
