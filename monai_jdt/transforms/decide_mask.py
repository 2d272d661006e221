"""From probability to mask: the mask with the best expected Dice or Jaccard score instead of a threshold."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data.meta_tensor import MetaTensor
from monai.transforms.transform import MapTransform, Transform
from monai.utils import convert_to_tensor

from monai_jdt.functional.expected_overlap import EmptyMatch, ExpectedScore, best_expected_mask
from monai_jdt.transforms.with_meta import with_meta_of
from monai_jdt.validation import check_bool, check_choice, check_number, error_sentence

#: Ways to make a mask of probabilities.
MASK_DECISIONS = ("threshold", "expected_dice", "expected_jaccard")


class DecideMask(Transform):
    """Make a mask of probabilities, for the score that is reported.

    * `"threshold"`: p > `threshold`, or with `softmax` the class with the largest p, as MONAI's `AsDiscrete`;
    * `"expected_dice"`, `"expected_jaccard"`: the mask with the best expected score of that kind, channel by channel. Where
      probabilities are faint it marks more than the threshold .5. See :func:`monai_jdt.functional.expected_overlap.best_expected_mask`.

    Args:
        decision: one of the above.
        softmax: whether the channels are classes that exclude each other, channel 0 the background, or regions, each by itself.
        threshold: in [0, 1); for `"threshold"` without `softmax` only.
        both_empty: "one" or "zero": what an empty mask of an empty label scores.
        empty_below: in [0, 1]; a channel whose best expected score is below it stays empty. Choose it on validation data by
            :func:`monai_jdt.functional.expected_overlap.best_empty_level`. Not for `"threshold"`.

    Raises:
        ValueError: an argument out of its range, or `empty_below` with `"threshold"`.

    Example:
        >>> p = torch.tensor([[0.9, 0.45, 0.4, 0.05]])
        >>> DecideMask("threshold")(p).tolist(), DecideMask("expected_dice")(p).tolist()
        ([[1.0, 0.0, 0.0, 0.0]], [[1.0, 1.0, 1.0, 0.0]])
    """

    def __init__(
        self,
        decision: str = "expected_dice",
        softmax: bool = False,
        threshold: float = 0.5,
        both_empty: str = "one",
        empty_below: float = 0.0,
    ) -> None:
        if decision not in MASK_DECISIONS:
            raise ValueError(error_sentence("decision", f"one of {list(MASK_DECISIONS)}", repr(decision), "name one of them"))
        self.decision = decision
        self.softmax = check_bool("softmax", softmax)
        self.threshold = check_number("threshold", threshold, 0, high=1)
        self.both_empty = check_choice("both_empty", both_empty, EmptyMatch)
        self.empty_below = check_number("empty_below", empty_below, 0, high=1)
        if decision == "threshold" and empty_below:
            fix = "decision='expected_dice', or leave empty_below out"
            raise ValueError(error_sentence("empty_below", "0 with decision='threshold'", f"{empty_below:g}", fix))

    def __call__(self, prob: torch.Tensor) -> MetaTensor:
        """Decide.

        Args:
            prob: `(C, *S)` in [0, 1], floating point.

        Returns:
            `(C, *S)` of 0 and 1, float32, with the affine and meta of the probabilities; one-hot with `softmax`.

        Raises:
            TypeError: no floating point.
            ValueError: values outside [0, 1], or one channel with `softmax`.
        """
        return self.with_expected(prob)[0]

    def with_expected(self, prob: torch.Tensor) -> tuple[MetaTensor, torch.Tensor | None]:
        """Decide, and say what the mask is expected to score.

        Args:
            prob: as for a call.

        Returns:
            The mask, and `(C,)`: each channel's expected score, NaN for the background with `softmax`; None for `"threshold"`.
        """
        plain = convert_to_tensor(prob, track_meta=False)
        if self.decision == "threshold":
            mask = plain > self.threshold
            if self.softmax:
                mask = torch.zeros_like(mask).scatter_(0, plain.argmax(0, keepdim=True), True)
            return with_meta_of(prob, mask.to(torch.float32)), None
        score = ExpectedScore(self.decision.removeprefix("expected_"))
        mask, expected = best_expected_mask(
            plain[None], score, softmax=self.softmax, both_empty=self.both_empty, empty_below=self.empty_below
        )
        return with_meta_of(prob, mask[0].to(torch.float32)), expected[0]


class DecideMaskd(MapTransform):
    """Dictionary version of :class:`DecideMask`.

    Args:
        keys: keys of the probabilities.
        decision: see :class:`DecideMask`.
        softmax: see :class:`DecideMask`.
        threshold: see :class:`DecideMask`.
        both_empty: see :class:`DecideMask`.
        empty_below: see :class:`DecideMask`.
        expected_postfix: if given, the expected scores of key `pred` are kept under `pred_<expected_postfix>`; not for `"threshold"`.
        allow_missing_keys: leave out a key that the item does not have.

    Raises:
        ValueError: as :class:`DecideMask`.
    """

    def __init__(
        self,
        keys: KeysCollection,
        decision: str = "expected_dice",
        softmax: bool = False,
        threshold: float = 0.5,
        both_empty: str = "one",
        empty_below: float = 0.0,
        expected_postfix: str | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.decide = DecideMask(decision, softmax, threshold, both_empty, empty_below)
        self.expected_postfix = expected_postfix

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Decide for each key. The item passed in is not changed."""
        d = dict(data)
        for key in self.key_iterator(d):
            d[key], expected = self.decide.with_expected(d[key])
            if self.expected_postfix and expected is not None:
                d[f"{key}_{self.expected_postfix}"] = expected
        return d
