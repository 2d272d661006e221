"""Cases with a label and cases without one, in every batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn
from torch.utils.data import Dataset

from monai_jdt.definitions import LabelForm
from monai_jdt.losses import JDTLoss
from monai_jdt.validation import check_bool, error_sentence


class LabelledAndUnlabelled(Dataset):
    """Pairs of a case with a label and a case without one. MONAI's and our collate functions make one batch of the pairs.

    A batch of n pairs has n images with a label and n without. An epoch is as long as the longer list, whose cases all occur once. The
    shorter one is repeated. Each item gets the entry "labelled".

    Args:
        labelled: a data set of dictionaries.
        unlabelled: a data set of dictionaries. Their labels, where they have any, are replaced.
        empty_label: from an item without a label to a label of the right shape and dtype, from which nothing is learnt; a batch needs
            one tensor of labels. None: zeros like the label of the pair's other item, where all have one shape, as crops have.
        votes: the labels are stacks of raters `(R, *S)`. An item without a label then gets a stack of no raters, to which
            :func:`monai_jdt.transforms.rater_collate` gives the weight 0.
        label_key: the labels.

    Raises:
        TypeError: `votes` that is no bool.
        ValueError: an empty list; `empty_label` together with `votes`.

    Example:
        >>> import torch
        >>> pairs = LabelledAndUnlabelled([{"label": torch.ones(1, 2)}], [{"image": 0}, {"image": 1}])
        >>> [(item.get("image"), item["labelled"], item["label"].tolist()) for item in pairs[1]]
        [(None, True, [[1.0, 1.0]]), (1, False, [[0.0, 0.0]])]
    """

    def __init__(
        self,
        labelled: Sequence[Any] | Dataset,
        unlabelled: Sequence[Any] | Dataset,
        empty_label: Callable[[Mapping[Any, Any]], Any] | None = None,
        *,
        votes: bool = False,
        label_key: str = "label",
    ) -> None:
        for name, items in (("labelled", labelled), ("unlabelled", unlabelled)):
            if not len(items):  # type: ignore[arg-type]
                raise ValueError(error_sentence(name, "at least one case", "none"))
        self.labelled, self.unlabelled = labelled, unlabelled
        if votes and empty_label is not None:
            raise ValueError(error_sentence("empty_label", "None with votes=True", "a function", "leave it out"))
        self.empty_label, self.votes, self.label_key = empty_label, check_bool("votes", votes), label_key

    def __len__(self) -> int:
        """Return the number of pairs."""
        return max(len(self.labelled), len(self.unlabelled))  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> list[dict[Any, Any]]:
        """Return a pair, or as many as the transforms make crops of a case."""
        known = self._items(self.labelled, index)
        unknown = self._items(self.unlabelled, index)
        result = [{**item, "labelled": True} for item in known]
        for number, item in enumerate(unknown):
            other = known[number % len(known)]
            empty = self.empty_label(item) if self.empty_label else other[self.label_key] * 0
            nobody: dict[str, list[str]] = {"rater_names": []} if self.votes and "rater_names" in other else {}
            result.append({**item, self.label_key: empty[:0] if self.votes else empty, **nobody, "labelled": False})
        return result

    @staticmethod
    def _items(items: Any, index: int) -> list[Any]:
        """A transform such as RandCropByPosNegLabeld makes several items of a case."""
        found = items[index % len(items)]
        return found if isinstance(found, list) else [found]


def reads_votes(loss: nn.Module) -> bool:
    """Return whether a loss takes stacks of raters: what :class:`LabelledAndUnlabelled` asks as `votes`.

    Args:
        loss: of this package or any other.

    Example:
        >>> from monai_jdt.losses import JDTCELoss
        >>> reads_votes(JDTCELoss(sigmoid=True)), reads_votes(JDTCELoss(sigmoid=True, votes=True))
        (False, True)
    """
    return isinstance(loss, JDTLoss) and loss.recipe.voxels.label.form is LabelForm.VOTES
