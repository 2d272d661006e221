"""Images as MONAI loads them, but read as the check of files reads them: one rule for what is opened, and for where it lies."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from monai.config import DtypeLike, KeysCollection
from monai.data.image_reader import ImageReader
from monai.transforms import LoadImage, LoadImaged
from monai.utils.enums import MetaKeys, SpaceKeys

from monai_jdt.data.files.file_volume import FileVolume
from monai_jdt.data.files.volumes import open_volume


class VolumeReader(ImageReader):
    """Read files by :func:`monai_jdt.data.files.volumes.open_volume`, for :class:`monai.transforms.LoadImage`.

    MONAI's `NibabelReader` replaces the sform of a NIfTI file by its qform (of any code) where the sform does not agree with
    `pixdim`, and in 4D files also where it does; its `ITKReader` follows ITK's other rule. This reader follows the one of
    :func:`monai_jdt.data.files.nifti.open_nifti`, as the check of files, :class:`LoadRaters` and the verb `fuse` do.

    Channels are on the last axis: components of a voxel, or what follows three axes of space. Axes of length 1 between (ITK's
    vectors in NIfTI, `(X, Y, Z, 1, C)`) are dropped.

    Args:
        channel_dim: the axis of the channels in the file; "no_channel": all axes are space; None: as above.
    """

    def __init__(self, channel_dim: str | int | None = None) -> None:
        super().__init__()
        self.channel_dim = channel_dim

    def verify_suffix(self, filename: Sequence[str | os.PathLike] | str | os.PathLike) -> bool:
        """Return True: a file that this reader cannot read is an error, not a case for another reader."""
        return True

    def read(self, data: Sequence[str | os.PathLike] | str | os.PathLike, **kwargs: Any) -> list[FileVolume]:
        """Read the headers of one or several files.

        Args:
            data: path or paths.
            kwargs: ignored.

        Raises:
            DataProblemError: see :func:`monai_jdt.data.files.volumes.open_volume`.
        """
        paths = [data] if isinstance(data, (str, os.PathLike)) else data
        return [open_volume(os.fspath(path)) for path in paths]

    def get_data(self, img: list[FileVolume]) -> tuple[np.ndarray, dict[str, Any]]:
        """Read the voxels. Several files become the channels of one image, on the first axis.

        Args:
            img: what :meth:`read` returned.

        Returns:
            The array, and the metadata of the first file: affine, original_affine, spatial_shape, original_channel_dim, space.
        """
        read = [self._one(volume) for volume in img]
        array, meta = read[0]
        if len(read) == 1:
            return array, meta
        return np.stack([array for array, _ in read]), {**meta, MetaKeys.ORIGINAL_CHANNEL_DIM: 0}

    def _one(self, volume: FileVolume) -> tuple[np.ndarray, dict[str, Any]]:
        array = volume.read()
        while array.ndim > 4 and 1 in array.shape[3:-1]:
            array = array.squeeze(array.shape.index(1, 3))
        channel: int | float = float("nan")  # MONAI's sign for an image without channels
        if isinstance(self.channel_dim, int):
            channel = self.channel_dim
        elif self.channel_dim is None and (volume.components or array.ndim > 3):
            channel = -1
        space = [n for axis, n in enumerate(array.shape) if channel != channel or axis != channel % array.ndim]
        affine = np.eye(4) if volume.affine is None else volume.affine
        meta: dict[str, Any] = {
            MetaKeys.AFFINE: affine.copy(),
            MetaKeys.ORIGINAL_AFFINE: affine.copy(),
            MetaKeys.SPATIAL_SHAPE: np.array(space[:3]),
            MetaKeys.ORIGINAL_CHANNEL_DIM: channel,
            MetaKeys.SPACE: SpaceKeys.RAS,
        }
        return array, meta


class LoadVolume(LoadImage):
    """:class:`monai.transforms.LoadImage`, with files read by :class:`VolumeReader`.

    Args:
        image_only: as in MONAI's.
        dtype: as in MONAI's.
        ensure_channel_first: as in MONAI's.
        channel_dim: see :class:`VolumeReader`.

    Raises:
        DataProblemError: when called: a file that is missing, damaged, or of no format that is read here.
    """

    def __init__(
        self,
        image_only: bool = True,
        dtype: DtypeLike | None = np.float32,
        ensure_channel_first: bool = False,
        channel_dim: str | int | None = None,
    ) -> None:
        super().__init__(None, image_only, dtype, ensure_channel_first)
        self.register(VolumeReader(channel_dim))  # the last one that is registered is asked first


class LoadVolumed(LoadImaged):
    """Dictionary version of :class:`LoadVolume`. The tensor has the image's metadata.

    Args:
        keys: of the paths; each is replaced by its image.
        dtype: as in :class:`monai.transforms.LoadImaged`.
        ensure_channel_first: as in :class:`monai.transforms.LoadImaged`.
        channel_dim: see :class:`VolumeReader`.
        allow_missing_keys: skip a key that the item does not have.

    Raises:
        DataProblemError: when called, as :class:`LoadVolume`.
    """

    def __init__(
        self,
        keys: KeysCollection,
        dtype: DtypeLike = np.float32,
        ensure_channel_first: bool = False,
        channel_dim: str | int | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, dtype=dtype, ensure_channel_first=ensure_channel_first, allow_missing_keys=allow_missing_keys)
        self.register(VolumeReader(channel_dim))
