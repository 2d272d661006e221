"""Transforms from rater files to labels: load any number of raters as one stack, then fuse the stack."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data.meta_tensor import MetaTensor
from monai.data.utils import to_affine_nd
from monai.transforms import LoadImage
from monai.transforms.transform import MapTransform, Transform
from monai.utils import convert_to_tensor, ensure_tuple_rep

from monai_jdt.data.grids import VoxelGrid, grid_problem
from monai_jdt.data.label_values import LARGEST_LABEL, distinct_values, named, whole_labels
from monai_jdt.data.problems import DataProblem, DataProblemError
from monai_jdt.data.volumes import PICTURES, how_to_mend
from monai_jdt.raters.fusion import (
    RaterEstimates,
    RegionSpec,
    checked_rater_weights,
    dice_weights,
    fuse_intersection,
    fuse_majority,
    fuse_random,
    fuse_union,
    fuse_weighted,
    named_regions,
)
from monai_jdt.raters.staple import estimate_multilabel_staple, estimate_staple


def _weighted(votes: torch.Tensor, regions: Sequence[Any], weights: Any) -> tuple[torch.Tensor, RaterEstimates]:
    return fuse_weighted(votes, regions, weights), RaterEstimates(weights=checked_rater_weights(weights, len(votes)))


def _dice_weighted(votes: torch.Tensor, regions: Sequence[Any], weights: Any, **options: Any) -> tuple[torch.Tensor, RaterEstimates]:
    shares = dice_weights(votes, regions, weights, **options)
    return fuse_weighted(votes, regions, shares), RaterEstimates(weights=shares)


#: The entries of a dictionary of estimates whose first axis is the raters.
RATER_FIELDS: tuple[str, ...] = ("weights", "sensitivity", "specificity", "confusion")

# A method either tells something about the raters, or is a function of the votes alone.
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


class LoadRaters(Transform):
    """Load the label maps of any number of raters of one image as one stack.

    Args:
        reader: a MONAI image reader or its name, as in :class:`monai.transforms.LoadImage`; None chooses by file type: NIfTI by
            `NibabelReader`; MetaImage (`.mhd` with its `.raw`, `.mha`), NRRD (`.nrrd`) and what else ITK reads by `ITKReader`; 2D
            PNG by `PILReader`, one grey or palette channel. Both 3D readers give RAS affines; a PNG has none. With pynrrd
            installed MONAI prefers its `NrrdReader`; `reader="ITKReader"` asks for ITK's.
        label_values: the values that a map may hold, background included; None allows every whole number in int16.

    Raises:
        DataProblemError: when called: no rater, a file that cannot be read, more than one channel (a channel axis of length 1 is
            dropped), values that are not whole (within :data:`monai_jdt.data.label_values.WHOLE_TOLERANCE`, for headers with a
            scale factor) or not allowed, a rater whose shape (but for last axes of length 1) or affine differs from the first
            one's by more than :func:`monai_jdt.data.grids.grid_problem` allows. The message names the file.

    Example:
        >>> LoadRaters(label_values=[0, 1])(["case01/rater1.nii.gz", "case01/rater2.nii.gz"])  # doctest: +SKIP
    """

    def __init__(self, reader: Any = None, label_values: Sequence[int] | None = None) -> None:
        self.label_values = None if label_values is None else tuple(int(v) for v in label_values)
        # float64 holds every int32 value, so that rounding cannot make a value whole.
        self._read = LoadImage(reader=reader, image_only=True, dtype=np.float64)

    def __call__(self, filenames: str | os.PathLike | Sequence[str | os.PathLike]) -> MetaTensor:
        """Read the files.

        Args:
            filenames: one path a rater; a single path is one rater.

        Returns:
            Votes `(R, *S)`: uint8 where every value fits, else int16; affine `(4, 4)` and meta of the first rater.
        """
        return self.load_onto(filenames, None)

    def load_onto(self, filenames: str | os.PathLike | Sequence[str | os.PathLike], grid: VoxelGrid | None) -> MetaTensor:
        """Read the files as maps of the voxels of a given volume.

        Args:
            filenames: one path a rater; a single path is one rater.
            grid: what every map must lie on, e.g. the image's; None: the first rater's.

        Returns:
            Votes `(R, *S)` with the shape of the grid (last axes of length 1 are added or taken away) and the affine of the first
            rater whose format has one; if none has, as with pictures, the grid's.
        """
        paths = [filenames] if isinstance(filenames, (str, os.PathLike)) else list(filenames)
        if not paths:
            raise _one_problem("raters", "at least one rater's file", "an empty list", "add a rater's file to the case")
        stack: list[torch.Tensor] = []
        meta: dict[Any, Any] = {}
        affine: np.ndarray | None = None
        for path in paths:
            label = self._read_one(path)
            own = _grid_of(os.fspath(path), label)
            if grid is None:
                grid = own
            elif (problem := grid_problem(own, grid)) is not None:
                raise DataProblemError([problem])
            elif grid.affine is None:
                grid = VoxelGrid(grid.path, grid.shape, own.affine)
            affine = own.affine if affine is None else affine
            meta = meta or dict(label.meta)
            stack.append(label.as_tensor().reshape(grid.shape))
        assert grid is not None
        votes = torch.stack(stack)
        small = votes.min() >= 0 and votes.max() <= 255
        # the meta's shape and name stay those of one map: (R, *S) is not an image with R channels in the file
        place = next((a for a in (affine, grid.affine) if a is not None), np.eye(4))
        meta |= {"original_channel_dim": 0, "spatial_shape": np.array(grid.shape), "affine": torch.as_tensor(place)}
        return MetaTensor(votes.to(torch.uint8 if small else torch.int16), meta=meta)

    def _read_one(self, path: str | os.PathLike) -> MetaTensor:
        if not isinstance(path, (str, os.PathLike)):
            fix = "merge_kits21(items, dest), or `datalist kits21 --merge`, which write one label map a rater"
            raise _one_problem("raters", "one file a rater", f"{type(path).__name__} {str(path)[:80]}", fix)
        name = os.fspath(path)
        try:
            label = self._read(name)
        except Exception as error:  # readers raise whatever their library raises
            reason = str(error).strip().splitlines()
            got = f"{type(error).__name__}: {reason[0] if reason else 'no reason given'}"
            raise _one_problem(name, "a label map that can be read", got, how_to_mend(name, "copy or export the file again")) from error
        channel_dim = label.meta.get("original_channel_dim", float("nan"))
        if isinstance(channel_dim, (int, np.integer)):  # "no_channel" or NaN where there is none
            if label.shape[channel_dim] != 1:
                expected, fix = "a label map of one channel", "export label values, not colours or one-hot channels"
                raise _one_problem(name, expected, f"shape {tuple(label.shape)}, channels on axis {channel_dim}", fix)
            label = MetaTensor(label.as_tensor().squeeze(channel_dim), meta=label.meta)
        values = label.as_tensor().numpy()
        if values.size == 0:
            raise _one_problem(name, "a label map with voxels", f"shape {tuple(label.shape)}", "export the file again")
        found = distinct_values(values)
        present, wrong = whole_labels(found)
        if wrong is None and not np.isfinite(values).all():
            wrong = f"the value {values[~np.isfinite(values)][0].item()!r}", "write the label as whole numbers"
        if wrong is None and (wide := np.abs(present) > LARGEST_LABEL).any():
            wrong = named(present[wide]), "number the labels anew"
        if wrong is not None:
            raise _one_problem(name, "whole label values within int16", *wrong)
        if self.label_values is not None:
            unknown = [int(v) for v in present if int(v) not in self.label_values]
            if unknown:
                fix = "set the convention (`regions`, `label_values`) to the one of the files, or correct the labels"
                raise _one_problem(name, f"label values among {list(self.label_values)}", str(unknown), fix)
        # a scale factor's 0.99999994 must not be cut to 0
        return label if found.dtype.kind != "f" else MetaTensor(label.as_tensor().round(), meta=label.meta)


class LoadRatersd(MapTransform):
    """Dictionary version of :class:`LoadRaters`: paths under a key become the stack under the same key.

    Args:
        keys: keys of the lists of rater paths.
        reader: see :class:`LoadRaters`.
        label_values: see :class:`LoadRaters`.
        image_key: key of an image that is loaded already, channel first; every rater must lie on its voxels, and the stack has
            its spatial shape. None: the raters are compared only among themselves.
        allow_missing_keys: leave out a key that the item does not have.

    Raises:
        DataProblemError: when called, as :class:`LoadRaters`.
    """

    def __init__(
        self,
        keys: KeysCollection,
        reader: Any = None,
        label_values: Sequence[int] | None = None,
        image_key: str | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.image_key = image_key
        self.loader = LoadRaters(reader=reader, label_values=label_values)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Load each key's raters; the item given is not changed."""
        d = dict(data)
        for key in self.key_iterator(d):
            grid = None
            if self.image_key is not None:
                image = d[self.image_key]
                of = str(getattr(image, "meta", {}).get("filename_or_obj", f"the image under {self.image_key!r}"))
                grid = _grid_of(of, image[0])
            d[key] = self.loader.load_onto(d[key], grid)
        return d


class FuseRaters(Transform):
    """Fuse a stack of raters into one label with a channel a region.

    | method | label | what it is |
    |---|---|---|
    | `"average"` | soft | :func:`monai_jdt.raters.fuse_average`; with rater weights, who weighs 0 is missing, the others count alike |
    | `"weighted"` | soft | :func:`monai_jdt.raters.fuse_weighted`, which needs rater weights |
    | `"dice_weighted"` | soft | :func:`monai_jdt.raters.fuse_dice_weighted` |
    | `"staple"` | soft | :func:`monai_jdt.raters.fuse_staple` |
    | `"majority"` | hard | :func:`monai_jdt.raters.fuse_majority`; a tie is background |
    | `"multilabel_staple"` | hard | :func:`monai_jdt.raters.fuse_multilabel_staple` |
    | `"intersection"`, `"union"` | hard | :func:`monai_jdt.raters.fuse_intersection`, :func:`monai_jdt.raters.fuse_union` |
    | `"random"` | hard | :func:`monai_jdt.raters.fuse_random`: one rater, always the same of a case, so that it may be cached |

    For another rater at every visit there is :class:`RandSampleRater`.

    Args:
        regions: the channels, in any spelling of :func:`monai_jdt.raters.named_regions`: `"brats2021"`,
            `{"cord": [1]}`, `[[1, 4], [1, 2, 4], [4]]`.
        method: a row of the table.
        rater_weights: one number a rater, for stacks of always the same raters; 0 = missing.
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
            raise ValueError(f"expected method among {sorted({*_FUSIONS, *_ESTIMATIONS})}, got {method!r}")
        if paper_compatible and method != "dice_weighted":
            raise ValueError(f"paper_compatible: expected False with method {method!r}, got True; it is for 'dice_weighted'")
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
        """Fuse, and tell what the method estimated about the raters.

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
            raise ValueError(f"rater_weights: expected one weight a rater for method 'weighted', got None. Fix: {fix}")
        if self.method == "average" and weights is not None:
            weights = [float(w > 0) for w in checked_rater_weights(weights, len(stack)).tolist()]
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
    """Dictionary version of :class:`FuseRaters`; name a key more than once to get several labels from one loaded stack.

    Args:
        keys: keys of the rater stacks.
        regions: see :class:`FuseRaters`.
        method: see :class:`FuseRaters`; one for all keys, or one a key.
        output_keys: where the labels go, one a key; None: in place of the stacks.
        allow_missing_keys: leave out a key that the item does not have.
        rater_weights: see :class:`FuseRaters`.
        weights_key: key of the item's own rater weights `(R,)`, as :class:`PadRatersd` writes them; None: `rater_weights`.
        paper_compatible: see :class:`FuseRaters`; used by those of the methods that are `"dice_weighted"`.
        seed: see :class:`FuseRaters`.
        estimates_keys: where what :meth:`FuseRaters.with_estimates` tells about the raters goes, one a key, None for a key without;
            None: nowhere. It is a dictionary of float64 tensors whose first axis is the raters: "weights" `(R,)`, "sensitivity" and
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
        >>> fuse = FuseRatersd("votes", [1], "staple", "label", estimates_keys="raters_told")
        >>> told = fuse({"votes": torch.tensor([[0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]])})["raters_told"]
        >>> told["sensitivity"].round(decimals=3).flatten().tolist()
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
            raise ValueError(f"expected one output key for each of {self.keys}, all different, got {self.output_keys}")
        methods = ensure_tuple_rep(method, len(self.keys))
        if paper_compatible and "dice_weighted" not in methods:
            raise ValueError(f"paper_compatible: expected False with method {method!r}, got True; it is for 'dice_weighted'")
        self.fusions = tuple(FuseRaters(regions, m, rater_weights, paper_compatible and m == "dice_weighted", seed) for m in methods)
        self.weights_key = weights_key
        self.estimates_keys = (None,) * len(self.keys) if estimates_keys is None else ensure_tuple_rep(estimates_keys, len(self.keys))
        told = [key for key in self.estimates_keys if key is not None]
        if len({*self.output_keys, *told}) < len(self.output_keys) + len(told):
            raise ValueError(f"estimates_keys: expected names that differ and are no output key, got {self.estimates_keys}")
        for name, estimates_key in zip(methods, self.estimates_keys, strict=True):
            if estimates_key is not None and name not in _ESTIMATIONS:
                fix = f"None for it, or one of {', '.join(sorted(_ESTIMATIONS))}"
                raise ValueError(
                    f"estimates_keys: expected None for method {name!r}, which estimates nothing, got {estimates_key!r}. Fix: {fix}"
                )

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Fuse each key's stack; the item given is not changed."""
        d = dict(data)
        weights = None if self.weights_key is None else data[self.weights_key]
        for key, output_key, fusion, told in self.key_iterator(d, self.output_keys, self.fusions, self.estimates_keys):
            d[output_key], estimates = fusion.with_estimates(data[key], weights)
            if told is not None:
                d[told] = _as_tensors(estimates, fusion.regions.values())
        return d


def _as_tensors(estimates: RaterEstimates, regions: Iterable[Sequence[int]]) -> dict[str, torch.Tensor]:
    """Estimates as MONAI's collate takes them: only tensors, and of the same shape for every case."""
    fields = {name: getattr(estimates, name) for name in RATER_FIELDS}
    told = {name: tensor for name, tensor in fields.items() if tensor is not None}
    if estimates.confusion is not None and estimates.values is not None:
        # the values that occur differ from case to case
        every = sorted({0, *estimates.values, *(value for group in regions for value in group)})
        at = torch.tensor([every.index(value) for value in estimates.values])
        full = estimates.confusion.new_full((len(estimates.confusion), len(every), len(every)), float("nan"))
        full[:, at[:, None], at] = estimates.confusion
        told |= {"confusion": full, "values": torch.tensor(every)}
    return told


def with_meta_of(source: Any, value: torch.Tensor) -> MetaTensor:
    """`value` as a MetaTensor with the affine, meta and applied operations of `source`, if that is one."""
    if isinstance(source, MetaTensor):
        return MetaTensor(value, meta=dict(source.meta), applied_operations=list(source.applied_operations))
    return MetaTensor(value)


def _one_problem(where: str, expected: str, got: str, fix: str) -> DataProblemError:
    return DataProblemError([DataProblem(where, expected, got, fix)])


def _grid_of(name: str, volume: torch.Tensor) -> VoxelGrid:
    """The grid of a volume `(*S)` without channels; a plain tensor and a picture have no affine."""
    known = None if name.lower().endswith(PICTURES) else getattr(volume, "affine", None)
    affine = None if known is None else to_affine_nd(3, np.asarray(known.cpu(), np.float64))  # (3, 3) of slices by ITK
    return VoxelGrid(name, tuple(volume.shape), affine)
