"""One label value per voxel from a label with a channel for each region."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from monai_jdt.validation import error_sentence


def check_map_values(regions: Sequence[Sequence[int]]) -> None:
    """Refuse label values that one label map cannot hold.

    Args:
        regions: the label values of each channel.

    Raises:
        ValueError: a label value beyond int16.
    """
    limits = torch.iinfo(torch.int16)
    beyond = [value for group in regions for value in group if not limits.min <= value <= limits.max]
    if beyond:
        expected = f"label values from {limits.min} to {limits.max} for one label map"
        raise ValueError(error_sentence("regions", expected, str(beyond[0]), "take the form hard or soft, or other label values"))


def regions_to_label_map(label: torch.Tensor, regions: Sequence[Sequence[int]]) -> torch.Tensor:
    """Return the label value of each voxel whose regions are nearest to the voxel's.

    A label value v belongs to the regions m(v), one number 0 or 1 for each region. With p the label of a voxel, its value is the v
    that minimises `sum_c |p_c - m_c(v)|` over 0 and the values of the regions. So p > 0.5 decides about a class, and regions inside
    each other become the values that they are made of. At a tie the lower value is taken, and of values with the same regions the
    lowest.

    Args:
        label: `(C, *S)`, in [0, 1].
        regions: the label values of each channel.

    Returns:
        `(*S)`, uint8 if every value fits, else int16.

    Raises:
        ValueError: another number of regions than of channels, or label values that int16 cannot hold.

    Example:
        >>> regions_to_label_map(torch.tensor([[0.6, 0.6, 0.2], [0.4, 0.6, 0.1]]), [[1, 2], [1]])
        tensor([2, 1, 0], dtype=torch.uint8)
    """
    if len(regions) != len(label):
        raise ValueError(error_sentence("regions", f"{len(label)} regions, one per channel", str(len(regions))))
    check_map_values(regions)
    values = sorted({0, *(value for group in regions for value in group)})
    small = values[0] >= 0 and values[-1] <= 255
    found = torch.zeros(label.shape[1:], dtype=torch.uint8 if small else torch.int16, device=label.device)
    least = torch.full(label.shape[1:], float("inf"), device=label.device)
    for value in values:
        distance = torch.zeros_like(least)
        for channel, group in zip(label, regions, strict=True):
            distance += (channel - float(value in group)).abs()
        # rounding must not decide between values at the same distance
        nearer = distance < least - 1e-6
        found[nearer], least = value, torch.where(nearer, distance, least)
    return found
