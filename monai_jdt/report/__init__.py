"""Pictures of results."""

from monai_jdt.report.figure import case_picture, draw_case

__all__ = ["case_picture", "draw_case"]
