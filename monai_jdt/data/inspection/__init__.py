"""The check of a data list: what is wrong with its files, found before the first training step."""

from monai_jdt.data.inspection.cases import check_items, find_problems

__all__ = ["check_items", "find_problems"]
