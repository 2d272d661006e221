"""Regions of a data list as labels of nnU-Net, whose label values are 0, 1, 2, ... without a gap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from monai_jdt.validation import error_sentence


@dataclass(frozen=True)
class RawLabels:
    """What stands for what in a converted data set.

    Args:
        regions: name to nnU-Net's label values, in the order of the network's channels (behind background, where there are classes).
        values: label value of the raters' files to nnU-Net's. A value that is not here is background.
        overlap: whether two regions share a value. nnU-Net then trains on regions (sigmoid), else on classes (softmax).
        ignored: the value of the raters' files with which a rater says nothing; None: there is none.
    """

    regions: Mapping[str, tuple[int, ...]]
    values: Mapping[int, int]
    overlap: bool
    ignored: int | None = None

    @property
    def ignore_label(self) -> int | None:
        """nnU-Net's ignore label, which must be the highest value."""
        return None if self.ignored is None else max(self.values.values()) + 1

    def dataset_entries(self) -> dict[str, Any]:
        """Return `labels`, and for regions `regions_class_order`, as `dataset.json` has them."""
        groups = list(self.regions.values())
        labels: dict[str, Any] = {"background": 0}
        labels |= {name: list(group) if self.overlap else group[0] for name, group in self.regions.items()}
        if self.ignore_label is not None:
            labels["ignore"] = self.ignore_label
        if not self.overlap:
            return {"labels": labels}
        # Later regions overwrite earlier ones, so that each region writes a value that only it and its outer regions have.
        order = []
        for number, group in enumerate(groups):
            later = {value for inner in groups[number + 1 :] for value in inner}
            order.append(next((value for value in group if value not in later), group[0]))
        return {"labels": labels, "regions_class_order": order}

    def renumbered(self, votes: np.ndarray) -> np.ndarray:
        """Return label values of the raters' files as nnU-Net's, uint8.

        Args:
            votes: whole numbers.
        """
        result = np.zeros(votes.shape, np.uint8)
        for old, new in self.values.items():
            result[votes == old] = new
        if self.ignore_label is not None:
            result[votes == self.ignored] = self.ignore_label
        return result


def raw_labels(regions: Mapping[str, Sequence[int]], ignored: int | None = None) -> RawLabels:
    """Number label values for nnU-Net. Values that are in the same regions become one.

    Regions that overlap are put in the order from the largest to the smallest, since nnU-Net writes one over the other in that order.

    Args:
        regions: name to label values of the raters' files.
        ignored: see :class:`RawLabels`.

    Raises:
        ValueError: a region with the value 0, which is nnU-Net's background, or with `ignored`, a region that nnU-Net would take for
            something else, two regions of the same values, or more than 254 values.

    Example:
        >>> labels = raw_labels({"TC": (1, 4), "WT": (1, 2, 4), "ET": (4,)})
        >>> labels.regions, labels.values
        ({'WT': (1, 2, 3), 'TC': (1, 3), 'ET': (3,)}, {1: 1, 2: 2, 4: 3})
        >>> labels.dataset_entries()["regions_class_order"]
        [2, 1, 3]
        >>> raw_labels({"cyst": (3,), "kidney": (1, 2)}).dataset_entries()
        {'labels': {'background': 0, 'cyst': 1, 'kidney': 2}}
    """
    _check_regions(regions, ignored)
    every = list(dict.fromkeys(value for group in regions.values() for value in group))
    overlap = len(every) < sum(len(set(group)) for group in regions.values())
    names = list(regions)
    if overlap:
        names.sort(key=lambda name: -len(set(regions[name])))  # the sort is stable
        every.sort()
    membership = {value: tuple(value in regions[name] for name in names) for value in every}
    distinct = list(dict.fromkeys(membership.values()))
    if len(distinct) > 254:
        raise ValueError(error_sentence("regions", "at most 254 regions", str(len(distinct)), "name fewer regions"))
    values = {value: distinct.index(member) + 1 for value, member in membership.items()}
    groups = {name: tuple(sorted({values[value] for value in regions[name]})) for name in names}
    if len(set(groups.values())) < len(groups):
        raise ValueError(error_sentence("regions", "regions that differ", str(dict(regions)), "name each set of values once"))
    return RawLabels(groups, values, overlap, ignored)


def _check_regions(regions: Mapping[str, Sequence[int]], ignored: int | None) -> None:
    for name, group in regions.items():
        if not group or any(isinstance(value, bool) or int(value) != value or value < 0 for value in group):
            fix = "name the values of the raters' files"
            raise ValueError(error_sentence(f"region {name}", "one or more whole numbers above 0", str(list(group)), fix))
        if 0 in group:
            raise ValueError(error_sentence(f"region {name}", "label values other than 0", str(list(group)), "0 is background"))
        if ignored is not None and ignored in group:
            fix = "name another value, or leave it out of the region"
            raise ValueError(error_sentence("ignore value", f"none of the region {name}", str(ignored), fix))
        if name in ("background", "ignore"):
            raise ValueError(error_sentence("regions", "names other than nnU-Net's background and ignore", name, "rename the region"))
    for (one, first), (other, second) in combinations(regions.items(), 2):
        shared = set(first) & set(second)
        if shared and shared not in (set(first), set(second)):
            got = f"{one} and {other}, which share {sorted(shared)}"
            fix = "nnU-Net writes one region over the other, so that neither would be right; train on them one by one"
            raise ValueError(error_sentence("regions", "regions that lie in each other or apart", got, fix))
    if ignored == 0:
        raise ValueError(error_sentence("ignore value", "a value other than 0", "0", "0 is background"))
