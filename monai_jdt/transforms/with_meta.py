"""Carry the affine and metadata of a transform's input over to its result."""

from __future__ import annotations

from typing import Any

import torch
from monai.data.meta_tensor import MetaTensor


def with_meta_of(source: Any, value: torch.Tensor) -> MetaTensor:
    """Return `value` as a MetaTensor with the affine, meta and applied operations of `source`, if that is a MetaTensor."""
    if isinstance(source, MetaTensor):
        return MetaTensor(value, meta=dict(source.meta), applied_operations=list(source.applied_operations))
    return MetaTensor(value)
