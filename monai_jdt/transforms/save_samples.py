"""Write samples as NIfTI files, one for each sample."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection, PathLike
from monai.data.folder_layout import FolderLayout
from monai.data.meta_tensor import MetaTensor
from monai.transforms import SaveImage
from monai.transforms.transform import MapTransform, Transform

from monai_jdt.data.files.atomic import whole_file
from monai_jdt.transforms.same_grid_writer import SameGridWriter
from monai_jdt.validation import check_bool, check_name, error_sentence

_ENDINGS = (".nii.gz", ".nii")


class SaveSamples(Transform):
    """Write each sample as a NIfTI file of its own, on the grid of the image: `case_sample_0.nii.gz`, `case_sample_1.nii.gz`, ...

    With `softmax` a file holds class indices; else a single channel is a map of 0 and 1, and several regions, which may overlap, lie on
    the last axis. A file is there as a whole or not at all.

    Args:
        output_dir: the folder of the files.
        output_postfix: the word between the image's name and the number of the sample.
        output_ext: ".nii.gz" or ".nii".
        softmax: whether the channels exclude each other.
        separate_folder: whether each image has a folder of its own.
        data_root_dir: the folder below which images lie; their place below it is kept in `output_dir`.

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: another ending.
    """

    def __init__(
        self,
        output_dir: PathLike,
        output_postfix: str = "sample",
        output_ext: str = ".nii.gz",
        softmax: bool = False,
        separate_folder: bool = False,
        data_root_dir: PathLike = "",
    ) -> None:
        self.ending = check_name("output_ext", output_ext, _ENDINGS)
        self.softmax = check_bool("softmax", softmax)
        self.layout = FolderLayout(
            output_dir, postfix=output_postfix, parent=check_bool("separate_folder", separate_folder), data_root_dir=data_root_dir
        )
        self.save = SaveImage(
            output_ext=output_ext,
            output_dtype=np.uint8,
            print_log=False,
            writer=SameGridWriter,
            squeeze_end_dims=False,
        )

    def __call__(self, samples: torch.Tensor) -> list[str]:
        """Write.

        Args:
            samples: `(M, C, *S)`, 0 and 1, a MetaTensor whose meta names the image's file.

        Returns:
            The paths of the files.

        Raises:
            TypeError: no MetaTensor.
            ValueError: no file name in the meta, fewer than three dimensions, or too many channels for class indices of one byte.
            OSError: a folder that cannot be written to.
        """
        if not isinstance(samples, MetaTensor):
            fix = "write samples before they are made plain"
            raise TypeError(error_sentence("samples", "a MetaTensor, which knows its file and grid", type(samples).__name__, fix))
        if samples.ndim < 3:
            expected = "samples (M, C, *S)"
            raise ValueError(
                error_sentence("samples", expected, f"shape {tuple(samples.shape)}", "add the dimensions that are missing")
            )
        if self.softmax and samples.shape[1] > 256:
            raise ValueError(error_sentence("samples", "at most 256 classes", str(samples.shape[1])))
        subject = samples.meta.get("filename_or_obj")
        if not subject:
            raise ValueError(
                error_sentence("samples", "the image's file in meta['filename_or_obj']", "none", "load images by LoadImaged")
            )
        paths = []
        for number, sample in enumerate(samples.as_tensor().cpu()):
            path = f"{self.layout.filename(str(subject), number)}{self.ending}"
            voxels = sample.to(torch.uint8).argmax(0) if self.softmax else sample[0] if len(sample) == 1 else sample.movedim(0, -1)
            with whole_file(path) as draft:
                image = MetaTensor(voxels.to(torch.uint8), meta=dict(samples.meta), device=voxels.device)
                self.save(image, filename=draft.removesuffix(self.ending))
            paths.append(path)
        return paths


class SaveSamplesd(MapTransform):
    """Dictionary version of :class:`SaveSamples`. The item is not changed.

    Args:
        keys: keys of the samples. Several keys need an instance each, with other postfixes.
        output_dir: see :class:`SaveSamples`.
        output_postfix: see :class:`SaveSamples`.
        output_ext: see :class:`SaveSamples`.
        softmax: see :class:`SaveSamples`.
        separate_folder: see :class:`SaveSamples`.
        data_root_dir: see :class:`SaveSamples`.
        allow_missing_keys: leave out a key that the item does not have.

    Raises:
        TypeError: as :class:`SaveSamples`.
        ValueError: as :class:`SaveSamples`, or several keys.
    """

    def __init__(
        self,
        keys: KeysCollection,
        output_dir: PathLike,
        output_postfix: str = "sample",
        output_ext: str = ".nii.gz",
        softmax: bool = False,
        separate_folder: bool = False,
        data_root_dir: PathLike = "",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if len(self.keys) > 1:
            fix = "use one SaveSamplesd for each, with another output_postfix"
            raise ValueError(error_sentence("keys", "one key, since keys of one image would have the same files", str(self.keys), fix))
        self.save = SaveSamples(output_dir, output_postfix, output_ext, softmax, separate_folder, data_root_dir)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Write the samples of an item."""
        d = dict(data)
        for key in self.key_iterator(d):
            self.save(d[key])
        return d
