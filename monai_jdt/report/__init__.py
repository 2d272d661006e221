"""Pictures of results."""

from monai_jdt.report.figure import draw_case

__all__ = ["draw_case"]
