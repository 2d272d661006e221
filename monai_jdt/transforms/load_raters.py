"""Any number of raters' files as one stack."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data.meta_tensor import MetaTensor
from monai.data.utils import to_affine_nd
from monai.transforms import LoadImage
from monai.transforms.transform import MapTransform, Transform
from monai.utils.enums import MetaKeys, SpaceKeys

from monai_jdt.data.files.file_volume import how_to_mend, one_problem
from monai_jdt.data.files.foreground import Foreground, checked_foreground, foreground_mask
from monai_jdt.data.files.grids import VoxelGrid, grid_problem
from monai_jdt.data.files.label_values import LARGEST_LABEL, blurred_values, distinct_values, first_as_text, whole_labels
from monai_jdt.data.files.volumes import WITHOUT_PLACE, label_volume, open_volume
from monai_jdt.data.problems import DataProblemError
from monai_jdt.data.rater_names import checked_weights, names_in_item
from monai_jdt.transforms.pad_raters import RATER_WEIGHTS
from monai_jdt.transforms.with_meta import with_meta_of
from monai_jdt.validation import error_sentence

_NIFTI = (".nii", ".nii.gz")
# MONAI's readers that leave the voxels in the order of the file, unless they are built with other options.
_IN_FILE_ORDER = ("ITKReader", "NibabelReader")


class LoadRaters(Transform):
    """Load the label maps of any number of raters of one image as one stack.

    Args:
        reader: None reads every format that :func:`monai_jdt.data.files.volumes.open_volume` opens, as the check of files does. A MONAI
            image reader or its name, as in :class:`monai.transforms.LoadImage`, reads the voxels instead; the place of a NIfTI file
            is still read from its header by the rule of :func:`monai_jdt.data.files.nifti.open_nifti` (not with a reader object, whose
            options may reorder voxels).
        label_values: the values that a map may hold, background included; None allows every whole number in int16.
        foreground: the value of what a rater marked in files of two values, such as 255, or 0 where black is the mark, or a colour
            ("#ff0000", or three numbers); the stack is then 1 there and 0 elsewhere. None: the files hold label values.

    Raises:
        ValueError: a foreground that is none, or a colour with `reader`.
        DataProblemError: when called: no rater, a file that cannot be read, more than one channel (a channel axis of length 1 is
            dropped), values that are not whole (within :data:`monai_jdt.data.WHOLE_TOLERANCE`, for headers with a
            scale factor) or not allowed, a rater whose shape (but for last axes of length 1) or affine differs from the first
            one's by more than :func:`monai_jdt.data.grid_problem` allows. The message names the file, and is that of the check.

    Example:
        >>> LoadRaters(label_values=[0, 1])(["case01/rater1.nii.gz", "case01/rater2.nii.gz"])  # doctest: +SKIP
    """

    def __init__(
        self, reader: Any = None, label_values: Sequence[int] | None = None, foreground: int | str | Sequence[int] | None = None
    ) -> None:
        self.foreground = checked_foreground(foreground)
        if isinstance(self.foreground, str) and reader is not None:
            fix = "leave `reader` out: pictures are read without it"
            raise ValueError(error_sentence("foreground", "a number together with `reader`", self.foreground, fix))
        self.label_values = None if label_values is None else tuple(int(v) for v in label_values)
        # float64 holds every int32 value, so that rounding cannot make a value whole.
        self._read = None if reader is None else LoadImage(reader=reader, image_only=True, dtype=np.float64)
        self._in_file_order = getattr(reader, "__name__", reader) in _IN_FILE_ORDER

    def __call__(self, filenames: str | os.PathLike | Sequence[str | os.PathLike]) -> MetaTensor:
        """Read the files.

        Args:
            filenames: one path for each rater; a single path is one rater.

        Returns:
            Votes `(R, *S)`: uint8 where every value fits, else int16; affine `(4, 4)` and meta of the first rater.
        """
        return self.load_onto(filenames, None)

    def load_onto(
        self,
        filenames: str | os.PathLike | Sequence[str | os.PathLike],
        grid: VoxelGrid | None,
        foreground: int | str | Sequence[int] | None = None,
    ) -> MetaTensor:
        """Read the files as maps of the voxels of a given volume.

        Args:
            filenames: one path for each rater; a single path is one rater.
            grid: what every map must lie on, e.g. the image's; None: the first rater's.
            foreground: of these files, where the constructor has none.

        Returns:
            Votes `(R, *S)` with the shape of the grid (last axes of length 1 are added or taken away) and the affine of the first
            rater whose format has one; if none has, as with pictures, the grid's.
        """
        paths = [filenames] if isinstance(filenames, (str, os.PathLike)) else list(filenames)
        if not paths:
            raise one_problem("raters", "at least one rater's file", "an empty list", "add a rater's file to the case")
        mark = checked_foreground(foreground) if self.foreground is None else self.foreground
        stack: list[np.ndarray] = []
        meta: dict[Any, Any] = {}
        affine: np.ndarray | None = None
        for path in paths:
            values, own, its_meta = self._read_one(path, mark)
            if grid is None:
                grid = own
            elif (problem := grid_problem(own, grid, is_rater=True)) is not None:
                raise DataProblemError([problem])
            elif grid.affine is None:
                grid = VoxelGrid(grid.path, grid.shape, own.affine)
            affine = own.affine if affine is None else affine
            meta = meta or its_meta
            stack.append(values.reshape(grid.shape))
        assert grid is not None
        votes = torch.from_numpy(np.stack(stack))  # uint8 if all are, else int16
        # the meta's shape and name stay those of one map: (R, *S) is not an image with R channels in the file
        place = next((a for a in (affine, grid.affine) if a is not None), np.eye(4))
        meta |= {"original_channel_dim": 0, "spatial_shape": np.array(grid.shape), "affine": torch.from_numpy(place)}
        return MetaTensor(votes, meta=meta, device=votes.device)

    def _read_one(self, path: str | os.PathLike, mark: Foreground | None) -> tuple[np.ndarray, VoxelGrid, dict[Any, Any]]:
        """Return a label map in the narrowest dtype, its grid and metadata."""
        if not isinstance(path, (str, os.PathLike)):
            fix = "merge_kits21(items, dest), or `datalist kits21 --merge`, which write one label map for each rater"
            raise one_problem("raters", "one file per rater", f"{type(path).__name__} {str(path)[:80]}", fix)
        name = os.fspath(path)
        values, grid, meta = _read_label(name, mark) if self._read is None else self._read_by_monai(name)
        if self._read is not None and mark is not None:
            if isinstance(mark, str):
                raise one_problem(name, "a foreground that is a number, with `reader`", mark, "leave `reader` out")
            values = foreground_mask(values, mark, name)
        if values.size == 0:
            raise one_problem(name, "a label map with voxels", f"shape {values.shape}", "export the file again")
        present, wrong = whole_labels(distinct_values(values))
        wrong = wrong or blurred_values(name, present)
        if wrong is None and values.dtype.kind == "f" and not np.isfinite(values).all():
            wrong = f"the value {values[~np.isfinite(values)][0].item()!r}", "write the label as whole numbers"
        if wrong is None and (wide := np.abs(present) > LARGEST_LABEL).any():
            wrong = first_as_text(present[wide]), "number the labels anew"
        if wrong is not None:
            raise one_problem(name, "whole label values within int16", *wrong)
        if self.label_values is not None:
            unknown = [int(v) for v in present if int(v) not in self.label_values]
            if unknown:
                fix = "set the convention (`regions`, `label_values`) to the one of the files, or correct the labels"
                raise one_problem(name, f"label values among {list(self.label_values)}", str(unknown), fix)
        small = present.size == 0 or (present.min() >= 0 and present.max() <= 255)
        # a scale factor's 0.99999994 must not be cut to 0
        whole = np.rint(values) if values.dtype.kind == "f" else values
        return whole.astype(np.uint8 if small else np.int16, copy=False), grid, meta

    def _read_by_monai(self, name: str) -> tuple[np.ndarray, VoxelGrid, dict[Any, Any]]:
        """Read a label map by the reader that the user named."""
        assert self._read is not None
        header = open_volume(name)  # its errors name what is wrong with a file, MONAI's readers' do not
        try:
            with _without_namesakes(name) as alone:
                label = self._read(alone)
        except Exception as error:  # readers raise whatever their library raises
            reason = str(error).strip().splitlines()
            got = f"{type(error).__name__}: {reason[0] if reason else 'no reason given'}"
            raise one_problem(name, "a label map that can be read", got, how_to_mend(name, "copy or export the file again")) from error
        channel_dim = label.meta.get("original_channel_dim", float("nan"))
        if isinstance(channel_dim, (int, np.integer)):  # "no_channel" or NaN where there is none
            if label.shape[channel_dim] != 1:
                expected, fix = "a label map of one channel", "export label values, not colours or one-hot channels"
                raise one_problem(name, expected, f"shape {tuple(label.shape)}, channels on axis {channel_dim}", fix)
            label = MetaTensor(label.as_tensor().squeeze(channel_dim), meta=label.meta, device=label.device)
        grid, meta = _grid_of(name, label), {**label.meta, "filename_or_obj": name}
        if self._in_file_order and name.lower().endswith(_NIFTI):
            grid = VoxelGrid(name, grid.shape, header.affine)  # not the reader's own rule for a NIfTI file's place
            meta["original_affine"] = np.array(header.affine)
        return label.as_tensor().numpy(), grid, meta


def _read_label(name: str, mark: Foreground | None = None) -> tuple[np.ndarray, VoxelGrid, dict[Any, Any]]:
    """Read a label map as the check of files does."""
    volume = label_volume(open_volume(name), None, mark)
    values = volume.read()
    while values.ndim > 3 and values.shape[-1] == 1:
        values = values[..., 0]
    affine = np.eye(4) if volume.affine is None else volume.affine
    meta = {MetaKeys.ORIGINAL_AFFINE: affine.copy(), MetaKeys.SPACE: SpaceKeys.RAS, "filename_or_obj": name}
    return values, VoxelGrid(name, tuple(values.shape), volume.affine), meta


@contextmanager
def _without_namesakes(name: str) -> Iterator[str]:
    """Give a path to a reader of ITK, which opens `A.nii` for `A.nii.gz` if both exist: then a link in a folder of its own."""
    stem = next((name[: -len(ending)] for ending in reversed(_NIFTI) if name.lower().endswith(ending)), None)
    if stem is None or not any(os.path.exists(stem + ending) for ending in (*_NIFTI, ".hdr", ".img") if stem + ending != name):
        yield name
        return
    with tempfile.TemporaryDirectory() as folder:
        alone = os.path.join(folder, os.path.basename(name))
        os.symlink(os.path.abspath(name), alone)
        yield alone


class LoadRatersd(MapTransform):
    """Dictionary version of :class:`LoadRaters`: paths under a key become the stack under the same key.

    Args:
        keys: keys of the lists of rater paths.
        reader: see :class:`LoadRaters`.
        label_values: see :class:`LoadRaters`.
        foreground: see :class:`LoadRaters`. None: the item's own, under `foreground_key`, if it has one.
        foreground_key: where an item may say its foreground. It is not in the result, whose stack has label values.
        image_key: key of an image that is loaded already, channel first; every rater must lie on its voxels, and the stack has
            its spatial shape. None: the raters are compared only among themselves.
        allow_missing_keys: skip a key that the item does not have.
        rater_names: the people of the whole list, e.g. :func:`monai_jdt.data.names_of_raters` of it. Slot r of every stack is then the
            rater `rater_names[r]`. Who has no file of a case is a missing rater: background, of weight 0. None: the stack has the
            item's own raters in their order.
        rater_weights: weights by name; 1 for names that are not there. It needs `rater_names`.
        names_key: key of the names of the item's own raters.
        weights_key: with `rater_names`, where the weights `(R,)`, float32, go, for :class:`FuseRatersd` and the losses. Weights that
            an item has there already, one for each of its own raters, are multiplied with those of `rater_weights`.

    Raises:
        ValueError: a name twice, weights without names, of an unknown name, below 0 or not finite; when called, an item whose raters
            have no names, or names that `rater_names` lacks.
        DataProblemError: when called, as :class:`LoadRaters`.

    Example:
        >>> items = read_datalist("list.json", rater_names=True)  # doctest: +SKIP
        >>> LoadRatersd("raters", rater_names=names_of_raters(items), rater_weights={"anna": 2})(items[0])  # doctest: +SKIP
    """

    def __init__(
        self,
        keys: KeysCollection,
        reader: Any = None,
        label_values: Sequence[int] | None = None,
        image_key: str | None = None,
        allow_missing_keys: bool = False,
        rater_names: Sequence[str] | None = None,
        rater_weights: Mapping[str, float] | None = None,
        names_key: Hashable = "rater_names",
        weights_key: Hashable = RATER_WEIGHTS,
        foreground: int | str | Sequence[int] | None = None,
        foreground_key: Hashable = "foreground",
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.foreground_key = foreground_key
        self.rater_names = None if rater_names is None else tuple(map(str, rater_names))
        if self.rater_names is None and rater_weights is not None:
            fix = "pass rater_names=names_of_raters(items), or give one weight per rater to FuseRatersd"
            raise ValueError(error_sentence("rater_weights", "weights by name together with rater_names", "no rater_names", fix))
        if self.rater_names is not None and (not self.rater_names or len(set(self.rater_names)) < len(self.rater_names)):
            raise ValueError(error_sentence("rater_names", "at least one name, each once", str(list(self.rater_names))))
        self.rater_weights = checked_weights(rater_weights or {}, self.rater_names or ())
        self.names_key, self.weights_key = names_key, weights_key
        self.image_key = image_key
        self.loader = LoadRaters(reader=reader, label_values=label_values, foreground=foreground)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Load each key's raters. The item passed in is not changed."""
        d = dict(data)
        mark = d.pop(self.foreground_key, None)
        for key in self.key_iterator(d):
            grid = None
            if self.image_key is not None:
                image = d[self.image_key]
                of = str(getattr(image, "meta", {}).get("filename_or_obj", f"the image under {self.image_key!r}"))
                grid = _grid_of(of, image[0])
            d[key] = self.loader.load_onto(d[key], grid, mark)
        if self.rater_names is not None:
            self._give_slots(d)
        return d

    def _give_slots(self, item: dict[Hashable, Any]) -> None:
        """Put each rater of the stacks into the slot of the rater's name, and write names and weights of all slots."""
        assert self.rater_names is not None
        for key in self.key_iterator(item):
            votes = item[key]
            names = names_in_item(item, len(votes), "the item", self.names_key)
            unknown = [name for name in names if name not in self.rater_names]
            if unknown:
                fix = "pass the names of the whole list, names_of_raters(items)"
                raise ValueError(error_sentence("rater_names", "names among " + ", ".join(self.rater_names), unknown[0], fix))
            given = item.get(self.weights_key)
            own = [1.0] * len(names) if given is None else [float(weight) for weight in given]
            if len(own) != len(names):
                expected = f"one weight for each of {len(names)} raters"
                raise ValueError(error_sentence(str(self.weights_key), expected, str(len(own))))
            stack = votes.as_tensor()
            slots = stack.new_zeros((len(self.rater_names), *stack.shape[1:]))
            weights = torch.zeros(len(self.rater_names), device="cpu")
            for rater, (name, weight) in enumerate(zip(names, own, strict=True)):
                slot = self.rater_names.index(name)
                slots[slot], weights[slot] = stack[rater], weight * self.rater_weights[name]
            item[key] = with_meta_of(votes, slots)
        # written last: stacks under several keys are of the same raters
        item[self.names_key], item[self.weights_key] = list(self.rater_names), weights


def _grid_of(name: str, volume: torch.Tensor) -> VoxelGrid:
    """Return the grid of a volume `(*S)` without channels. A plain tensor, a picture and an array have no affine."""
    known = None if name.lower().endswith(WITHOUT_PLACE) else getattr(volume, "affine", None)
    affine = None if known is None else to_affine_nd(3, np.asarray(known.cpu(), np.float64))  # (3, 3) of slices by ITK
    return VoxelGrid(name, tuple(volume.shape), affine)
