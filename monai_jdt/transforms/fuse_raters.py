"""Fuse a stack of raters into one label with a channel for each region."""

from __future__ import annotations

import difflib
import zlib
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data.meta_tensor import MetaTensor
from monai.transforms.transform import MapTransform, Transform
from monai.utils import convert_to_tensor, ensure_tuple_rep

from monai_jdt.raters.dice_weighted import dice_weights
from monai_jdt.raters.estimates import RaterEstimates
from monai_jdt.raters.intersection import fuse_intersection
from monai_jdt.raters.majority import fuse_majority
from monai_jdt.raters.multilabel_staple import estimate_multilabel_staple
from monai_jdt.raters.random_rater import fuse_random
from monai_jdt.raters.region_names import RegionSpec, named_regions
from monai_jdt.raters.staple import estimate_staple
from monai_jdt.raters.union import fuse_union
from monai_jdt.raters.votes import rater_shares
from monai_jdt.raters.weighted import fuse_weighted
from monai_jdt.transforms.with_meta import with_meta_of
from monai_jdt.validation import error_sentence


def _weighted(votes: torch.Tensor, regions: Sequence[Any], weights: Any) -> tuple[torch.Tensor, RaterEstimates]:
    return fuse_weighted(votes, regions, weights), RaterEstimates(weights=rater_shares(weights, len(votes)))


def _dice_weighted(votes: torch.Tensor, regions: Sequence[Any], weights: Any, **options: Any) -> tuple[torch.Tensor, RaterEstimates]:
    shares = dice_weights(votes, regions, weights, **options)
    return fuse_weighted(votes, regions, shares), RaterEstimates(weights=shares)


#: The entries of a dictionary of estimates whose first axis is the raters.
RATER_FIELDS: tuple[str, ...] = ("weights", "sensitivity", "specificity", "confusion")

# A method either estimates something about the raters, or is a function of the votes alone.
_ESTIMATIONS: dict[str, Callable[..., tuple[torch.Tensor, RaterEstimates]]] = {
    "average": _weighted,
    "dice_weighted": _dice_weighted,
    "multilabel_staple": estimate_multilabel_staple,
    "staple": estimate_staple,
    "weighted": _weighted,
}
_FUSIONS: dict[str, Callable[..., torch.Tensor]] = {
    "intersection": fuse_intersection,
    "majority": fuse_majority,
    "random": fuse_random,
    "union": fuse_union,
}


class FuseRaters(Transform):
    """Fuse a stack of raters into one label with one channel for each region.

    | method | label | what it is |
    |---|---|---|
    | `"average"` | soft | :func:`monai_jdt.raters.fuse_average`; a rater of weight 0 is missing, the others count alike |
    | `"weighted"` | soft | :func:`monai_jdt.raters.fuse_weighted`, which needs rater weights |
    | `"dice_weighted"` | soft | :func:`monai_jdt.raters.fuse_dice_weighted` |
    | `"staple"` | soft | :func:`monai_jdt.raters.fuse_staple` |
    | `"majority"` | hard | :func:`monai_jdt.raters.fuse_majority`; a tie is background |
    | `"multilabel_staple"` | hard | :func:`monai_jdt.raters.fuse_multilabel_staple` |
    | `"intersection"`, `"union"` | hard | :func:`monai_jdt.raters.fuse_intersection`, :func:`monai_jdt.raters.fuse_union` |
    | `"random"` | hard | :func:`monai_jdt.raters.fuse_random`: one rater, the same at each load, so that it may be cached |

    :class:`RandSampleRater` draws another rater at each call.

    Args:
        regions: the channels, in any spelling of :func:`monai_jdt.raters.named_regions`: `"brats2021"`,
            `{"cord": [1]}`, `[[1, 4], [1, 2, 4], [4]]`.
        method: a row of the table.
        rater_weights: one number for each rater, if all stacks hold the same raters in the same order; 0 = missing.
        paper_compatible: for `"dice_weighted"`, see :func:`monai_jdt.raters.dice_weights`.
        seed: for `"random"`; the choice depends on it and on the votes.

    Raises:
        ValueError: for another method, or an option that the method does not take.

    Example:
        >>> votes = torch.tensor([[0, 1, 2], [0, 1, 0]])
        >>> FuseRaters({"lesion": [1, 2]})(votes)
        metatensor([[0.0000, 1.0000, 0.5000]])
    """

    def __init__(
        self,
        regions: RegionSpec,
        method: str = "average",
        rater_weights: Sequence[float] | None = None,
        paper_compatible: bool = False,
        seed: int = 0,
    ) -> None:
        if method not in _FUSIONS and method not in _ESTIMATIONS:
            known = sorted({*_FUSIONS, *_ESTIMATIONS})
            close = difflib.get_close_matches(str(method), known, n=1)
            raise ValueError(error_sentence("method", f"one of {', '.join(known)}", repr(method), f"name {(close or known)[0]}"))
        if paper_compatible and method != "dice_weighted":
            fix = "leave it out, or use 'dice_weighted'"
            raise ValueError(error_sentence("paper_compatible", f"False with method {method!r}", "True", fix))
        self.method = method
        self.regions = named_regions(regions)
        self.rater_weights = None if rater_weights is None else tuple(float(w) for w in rater_weights)
        self.paper_compatible = paper_compatible
        self.seed = seed

    def __call__(self, votes: torch.Tensor, rater_weights: torch.Tensor | Sequence[float] | None = None) -> MetaTensor:
        """Fuse.

        Args:
            votes: label values `(R, *S)`, integer dtype.
            rater_weights: `(R,)`, 0 = missing; None: those of the constructor.

        Returns:
            Label `(C, *S)`, float32, in [0, 1], with the affine and meta of the votes.
        """
        return self.with_estimates(votes, rater_weights)[0]

    def with_estimates(
        self, votes: torch.Tensor, rater_weights: torch.Tensor | Sequence[float] | None = None
    ) -> tuple[MetaTensor, RaterEstimates | None]:
        """Fuse, and return what the method estimates about the raters.

        Args:
            votes: label values `(R, *S)`, integer dtype.
            rater_weights: `(R,)`, 0 = missing; None: those of the constructor.

        Returns:
            The label as :meth:`__call__` gives it, and the :class:`monai_jdt.raters.RaterEstimates`: `weights` of `"average"`,
            `"weighted"` and `"dice_weighted"`, `sensitivity` and `specificity` of `"staple"`, `confusion` of
            `"multilabel_staple"`. None of the other methods, which estimate nothing.

        Example:
            >>> label, estimates = FuseRaters([1], "dice_weighted").with_estimates(torch.tensor([[0, 1, 1], [0, 1, 1], [0, 0, 0]]))
            >>> estimates.weights.tolist()
            [0.5, 0.5, 0.0]
        """
        stack = convert_to_tensor(votes, track_meta=False)
        weights = self.rater_weights if rater_weights is None else rater_weights
        options: dict[str, Any] = {}
        if self.method == "weighted" and weights is None:
            fix = "give rater_weights, or use 'average'"
            raise ValueError(error_sentence("rater_weights", "one weight for each rater with method 'weighted'", "None", fix))
        if self.method == "average" and weights is not None:
            weights = [float(w > 0) for w in rater_shares(weights, len(stack)).tolist()]
        if self.method == "dice_weighted":
            options["paper_compatible"] = self.paper_compatible
        if self.method == "random":
            options["seed"] = zlib.crc32(stack.cpu().contiguous().numpy().tobytes(), self.seed & 0xFFFFFFFF)
        groups = tuple(self.regions.values())
        if self.method in _FUSIONS:
            return with_meta_of(votes, _FUSIONS[self.method](stack, groups, weights, **options)), None
        label, estimates = _ESTIMATIONS[self.method](stack, groups, weights, **options)
        return with_meta_of(votes, label), estimates


class FuseRatersd(MapTransform):
    """Dictionary version of :class:`FuseRaters`. A key named more than once makes several labels from one loaded stack.

    Args:
        keys: keys of the rater stacks.
        regions: see :class:`FuseRaters`.
        method: see :class:`FuseRaters`; one for all keys, or one for each.
        output_keys: where the labels go, one for each key; None: in place of the stacks.
        allow_missing_keys: skip a key that the item does not have.
        rater_weights: see :class:`FuseRaters`.
        weights_key: key of the item's own rater weights `(R,)`, as :class:`PadRatersd` writes them; None: `rater_weights`.
        paper_compatible: see :class:`FuseRaters`; used by those of the methods that are `"dice_weighted"`.
        seed: see :class:`FuseRaters`.
        estimates_keys: where the estimates of :meth:`FuseRaters.with_estimates` go, one for each key, None for a key without;
            None: nowhere. They are a dictionary of float64 tensors whose first axis is the raters: "weights" `(R,)`, "sensitivity" and
            "specificity" `(R, C)`, or "confusion" `(R, L, L)` with its label "values" `(L,)`, int64: 0, those of `regions`, and any
            other that occurs; NaN where a value does not occur. MONAI collates such dictionaries if all cases have as many raters:
            by :class:`PadRatersd` before this transform and its weights under `weights_key` (a rater added weighs 0 and is NaN in
            the rest), or by :func:`rater_collate` with the same `estimates_keys`.

    Raises:
        ValueError: as :class:`FuseRaters`, if output keys repeat, and for an estimates key of a method that estimates nothing.

    Example:
        >>> both = FuseRatersd(["votes", "votes"], "brats2023", ["average", "majority"], ["label", "majority"])
        >>> sorted(both({"votes": torch.tensor([[0, 3], [0, 0], [1, 3]])}))
        ['label', 'majority', 'votes']
        >>> fuse = FuseRatersd("votes", [1], "staple", "label", estimates_keys="rater_estimates")
        >>> estimates = fuse({"votes": torch.tensor([[0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]])})["rater_estimates"]
        >>> estimates["sensitivity"].round(decimals=3).flatten().tolist()
        [1.0, 1.0, 0.0]
    """

    def __init__(
        self,
        keys: KeysCollection,
        regions: RegionSpec,
        method: str | Sequence[str] = "average",
        output_keys: KeysCollection | None = None,
        allow_missing_keys: bool = False,
        rater_weights: Sequence[float] | None = None,
        weights_key: Hashable | None = None,
        paper_compatible: bool = False,
        seed: int = 0,
        estimates_keys: KeysCollection | None = None,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.output_keys = self.keys if output_keys is None else ensure_tuple_rep(output_keys, len(self.keys))
        if len(set(self.output_keys)) < len(self.keys):
            expected = f"one output key for each of {self.keys}, all different"
            raise ValueError(error_sentence("output_keys", expected, str(self.output_keys)))
        methods = ensure_tuple_rep(method, len(self.keys))
        if paper_compatible and "dice_weighted" not in methods:
            fix = "leave it out, or use 'dice_weighted'"
            raise ValueError(error_sentence("paper_compatible", f"False with method {method!r}", "True", fix))
        self.fusions = tuple(FuseRaters(regions, m, rater_weights, paper_compatible and m == "dice_weighted", seed) for m in methods)
        self.weights_key = weights_key
        self.estimates_keys = (None,) * len(self.keys) if estimates_keys is None else ensure_tuple_rep(estimates_keys, len(self.keys))
        named = [key for key in self.estimates_keys if key is not None]
        if len({*self.output_keys, *named}) < len(self.output_keys) + len(named):
            raise ValueError(error_sentence("estimates_keys", "names that differ and are no output key", str(self.estimates_keys)))
        for name, estimates_key in zip(methods, self.estimates_keys, strict=True):
            if estimates_key is not None and name not in _ESTIMATIONS:
                fix = f"pass None for it, or choose a method among {', '.join(sorted(_ESTIMATIONS))}"
                expected = f"None for method {name!r}, which estimates nothing"
                raise ValueError(error_sentence("estimates_keys", expected, repr(estimates_key), fix))

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Fuse each key's stack. The item passed in is not changed."""
        d = dict(data)
        weights = None if self.weights_key is None else data[self.weights_key]
        for key, output_key, fusion, estimates_key in self.key_iterator(d, self.output_keys, self.fusions, self.estimates_keys):
            d[output_key], estimates = fusion.with_estimates(data[key], weights)
            if estimates_key is not None:
                d[estimates_key] = _as_tensors(estimates, fusion.regions.values())
        return d


def _as_tensors(estimates: RaterEstimates, regions: Iterable[Sequence[int]]) -> dict[str, torch.Tensor]:
    """Estimates as MONAI's collate takes them: only tensors, and of the same shape for every case."""
    fields = {name: getattr(estimates, name) for name in RATER_FIELDS}
    tensors = {name: tensor for name, tensor in fields.items() if tensor is not None}
    if estimates.confusion is not None and estimates.values is not None:
        # the values that occur differ from case to case
        every = sorted({0, *estimates.values, *(value for group in regions for value in group)})
        at = torch.tensor([every.index(value) for value in estimates.values], device="cpu")
        full = estimates.confusion.new_full((len(estimates.confusion), len(every), len(every)), float("nan"))
        full[:, at[:, None], at] = estimates.confusion
        tensors |= {"confusion": full, "values": torch.tensor(every, device="cpu")}
    return tensors
