"""The settings that overlays of a training bring along: a run has them only where the overlay is laid over `train.yaml`."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from monai_jdt.bundle_runtime.kinds import Number, Whole


def _of(overlay: str, *others: str) -> Any:
    """Return a declaration's note of the overlay that has its setting, and of other names for it."""
    return {"overlay": overlay, "also": list(others)}


class OverlaySettings(BaseModel):
    """Settings of overlays. Without the overlay nothing reads them, and they are refused as unknown keys."""

    model_config = ConfigDict(arbitrary_types_allowed=True, validate_assignment=True)

    border_smoothing: Number = Field(
        ge=0,
        le=1,
        description="e: near a border a label t becomes (1 - e) t + e / C (softmax over C channels) or (1 - e) t + e / 2 (sigmoid).",
        examples=[0.5],
        json_schema_extra=_of("smoothing_boundary.yaml", "border_epsilon", "epsilon"),
    )
    border_width: Whole = Field(
        ge=1,
        le=64,
        description="How near, in voxels of the training along each axis.",
        examples=[3],
        json_schema_extra=_of("smoothing_boundary.yaml", "width", "k"),
    )


def overlay_of(entry: Any) -> str | None:
    """Return the name of the overlay that has a setting, or None for a setting of `train.yaml` itself.

    Args:
        entry: the declaration.

    Example:
        >>> overlay_of(OverlaySettings.model_fields["border_width"])
        'smoothing_boundary.yaml'
    """
    return (entry.json_schema_extra or {}).get("overlay")
