"""Transforms from rater files to labels: load any number of raters as one stack, then fuse the stack."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data.meta_tensor import MetaTensor
from monai.transforms import LoadImage
from monai.transforms.transform import MapTransform, Transform
from monai.utils import convert_to_tensor, ensure_tuple_rep

from monai_jdt.data.inspection import AFFINE_TOLERANCE
from monai_jdt.data.problems import DataProblem, DataProblemError
from monai_jdt.raters.fusion import RegionSpec, fuse_average, fuse_majority, named_regions

_FUSIONS: dict[str, Callable[[torch.Tensor, Sequence[tuple[int, ...]]], torch.Tensor]] = {
    "average": fuse_average,
    "majority": fuse_majority,
}


class LoadRaters(Transform):
    """Load the label maps of any number of raters of one image as one stack.

    Args:
        reader: a MONAI image reader or its name, as in :class:`monai.transforms.LoadImage`; None chooses by file type.
        label_values: the values that a map may hold, background included; None allows every whole number in int16.

    Raises:
        DataProblemError: when called: no rater, a file that cannot be read, values that are not whole or not allowed, a
            rater whose shape or affine differs from the first one's. The message names the file.

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
            Votes `(R, *S)`: uint8 where every value fits, else int16; affine and meta of the first rater.
        """
        paths = [filenames] if isinstance(filenames, (str, os.PathLike)) else list(filenames)
        if not paths:
            raise _one_problem("raters", "at least one rater's file", "an empty list", "add a rater's file to the case")
        first = self._read_one(paths[0])
        stack = [first.as_tensor()]
        for path in paths[1:]:
            rater = self._read_one(path)
            _refuse_other_grid(path, rater, os.fspath(paths[0]), first)
            stack.append(rater.as_tensor())
        votes = torch.stack(stack)
        small = votes.min() >= 0 and votes.max() <= 255
        # the meta's shape and name stay those of one map: (R, *S) is not an image with R channels in the file
        meta = dict(first.meta, original_channel_dim=0)
        return MetaTensor(votes.to(torch.uint8 if small else torch.int16), meta=meta)

    def _read_one(self, path: str | os.PathLike) -> MetaTensor:
        name = os.fspath(path)
        try:
            label = self._read(name)
        except Exception as error:  # readers raise whatever their library raises
            reason = str(error).strip().splitlines()
            came = f"{type(error).__name__}: {reason[0] if reason else 'no reason given'}"
            raise _one_problem(name, "a label map that can be read", came, "copy or export the file again") from error
        flat = label.as_tensor().flatten()
        if flat.numel() == 0:
            raise _one_problem(name, "a label map with voxels", f"shape {tuple(label.shape)}", "export the file again")
        whole = torch.isfinite(flat) & (flat == flat.round()) & (flat.abs() <= 32767)
        if not whole.all():
            came = f"the value {flat[~whole][0].item()!r}"
            raise _one_problem(name, "whole label values within int16", came, "export the label map as integers")
        if self.label_values is not None:
            unknown = [int(v) for v in torch.unique(flat) if int(v) not in self.label_values]
            if unknown:
                fix = "set the convention (`regions`, `label_values`) to the one of the files, or correct the labels"
                raise _one_problem(name, f"label values among {list(self.label_values)}", str(unknown), fix)
        return label


class LoadRatersd(MapTransform):
    """Dictionary version of :class:`LoadRaters`: paths under a key become the stack under the same key.

    Args:
        keys: keys of the lists of rater paths.
        reader: see :class:`LoadRaters`.
        label_values: see :class:`LoadRaters`.
        image_key: key of an image that is loaded already, channel first; the raters must have its spatial shape and
            affine. None: the raters are compared only among themselves.
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
            paths = d[key]
            d[key] = self.loader(paths)
            if self.image_key is not None:
                first = paths if isinstance(paths, (str, os.PathLike)) else paths[0]
                image = d[self.image_key]
                of = str(getattr(image, "meta", {}).get("filename_or_obj", f"the image under {self.image_key!r}"))
                _refuse_other_grid(first, d[key][0], of, image[0])
        return d


class FuseRaters(Transform):
    """Fuse a stack of raters into one label with a channel a region.

    Args:
        regions: the channels, in any spelling of :func:`monai_jdt.raters.named_regions`: `"brats2021"`,
            `{"cord": [1]}`, `[[1, 4], [1, 2, 4], [4]]`.
        method: `"average"` (:func:`monai_jdt.raters.fuse_average`) or `"majority"`
            (:func:`monai_jdt.raters.fuse_majority`).

    Example:
        >>> votes = torch.tensor([[0, 1, 2], [0, 1, 0]])
        >>> FuseRaters({"lesion": [1, 2]})(votes)
        metatensor([[0.0000, 1.0000, 0.5000]])
    """

    def __init__(self, regions: RegionSpec, method: str = "average") -> None:
        if method not in _FUSIONS:
            raise ValueError(f"expected method among {sorted(_FUSIONS)}, came {method!r}")
        self.method = method
        self.regions = named_regions(regions)

    def __call__(self, votes: torch.Tensor) -> MetaTensor:
        """Fuse.

        Args:
            votes: label values `(R, *S)`, integer dtype.

        Returns:
            Label `(C, *S)`, float32, in [0, 1], with the affine and meta of the votes.
        """
        label = _FUSIONS[self.method](convert_to_tensor(votes, track_meta=False), tuple(self.regions.values()))
        if isinstance(votes, MetaTensor):
            return MetaTensor(label, meta=dict(votes.meta), applied_operations=votes.applied_operations)
        return MetaTensor(label)


class FuseRatersd(MapTransform):
    """Dictionary version of :class:`FuseRaters`; name a key more than once to get several labels from one loaded stack.

    Args:
        keys: keys of the rater stacks.
        regions: see :class:`FuseRaters`.
        method: see :class:`FuseRaters`; one for all keys, or one a key.
        output_keys: where the labels go, one a key; None: in place of the stacks.
        allow_missing_keys: leave out a key that the item does not have.

    Example:
        >>> both = FuseRatersd(["votes", "votes"], "brats2023", ["average", "majority"], ["label", "majority"])
        >>> sorted(both({"votes": torch.tensor([[0, 3], [0, 0], [1, 3]])}))
        ['label', 'majority', 'votes']
    """

    def __init__(
        self,
        keys: KeysCollection,
        regions: RegionSpec,
        method: str | Sequence[str] = "average",
        output_keys: KeysCollection | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.output_keys = self.keys if output_keys is None else ensure_tuple_rep(output_keys, len(self.keys))
        if len(set(self.output_keys)) < len(self.keys):
            raise ValueError(f"expected one output key for each of {self.keys}, all different, came {self.output_keys}")
        self.fusions = tuple(FuseRaters(regions, m) for m in ensure_tuple_rep(method, len(self.keys)))

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Fuse each key's stack; the item given is not changed."""
        d = dict(data)
        for key, output_key, fusion in self.key_iterator(d, self.output_keys, self.fusions):
            d[output_key] = fusion(data[key])
        return d


def _one_problem(where: str, expected: str, came: str, fix: str) -> DataProblemError:
    return DataProblemError([DataProblem(where, expected, came, fix)])


def _refuse_other_grid(path: str | os.PathLike, rater: MetaTensor, other_path: str, other: Any) -> None:
    """Raise if a rater's map does not lie on the voxels of another volume."""
    if tuple(rater.shape) != tuple(other.shape):
        expected = f"shape {tuple(other.shape)}, as {other_path}"
        raise _one_problem(os.fspath(path), expected, str(tuple(rater.shape)), "resample the map onto that grid")
    if not isinstance(other, MetaTensor):
        return
    # the same rule as that of the data check: how far the volume's corners are apart, in mm
    corners = torch.cartesian_prod(*[torch.tensor([0.0, n - 1.0]) for n in (*other.shape, 1, 1, 1)[:3]])
    points = torch.cat([corners, torch.ones(len(corners), 1)], dim=1).double()
    mine, others = rater.affine.double(), other.affine.double()
    shift = ((mine - others)[:3] @ points.T).norm(dim=0).max()
    if not shift <= AFFINE_TOLERANCE * others[:3, :3].norm(dim=0).min():
        expected = f"the affine of {other_path}, {_rows(others)}"
        raise _one_problem(os.fspath(path), expected, _rows(mine), "resample the map or correct its header")


def _rows(affine: torch.Tensor) -> str:
    return str(np.round(affine.cpu().numpy(), 4).tolist())
