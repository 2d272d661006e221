"""Write a prediction as NIfTI, on the grid and in the shape that it has."""

from __future__ import annotations

from typing import Any

from monai.config import NdarrayOrTensor
from monai.data import NibabelWriter


class SameGridWriter(NibabelWriter):
    """Write an array as it is, for :class:`monai.transforms.SaveImage`: no axis is moved or dropped, and nothing is resampled.

    :class:`monai.data.NibabelWriter` hands every array to a resampling, with `resample=False` onto its own grid. That raises for an
    array of two axes, and would forget the third axis of its affine, so that a flat image's prediction could not be written in place.

    Example:
        >>> import tempfile, nibabel, numpy as np
        >>> writer = SameGridWriter()
        >>> writer.set_data_array(np.zeros((4, 3)))
        >>> writer.set_metadata({"affine": np.diag([1.0, 1.0, 5.0, 1.0])})
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     writer.write(f"{folder}/flat.nii.gz")
        ...     file = nibabel.load(f"{folder}/flat.nii.gz")
        ...     print(file.shape, file.affine[2, 2])
        (4, 3) 5.0
    """

    def set_data_array(
        self, data_array: NdarrayOrTensor, channel_dim: int | None = None, squeeze_end_dims: bool = False, **kwargs: Any
    ) -> None:
        """Take the array.

        Args:
            data_array: any shape; channels, if there are any, on the last axis.
            channel_dim: not used, as are the arguments after it; `SaveImage` gives them to every writer.
            squeeze_end_dims: not used.
            kwargs: not used.
        """
        self.data_obj = data_array

    @classmethod
    def resample_if_needed(
        cls, data_array: NdarrayOrTensor, affine: NdarrayOrTensor | None = None, *args: Any, **kwargs: Any
    ) -> tuple[NdarrayOrTensor, NdarrayOrTensor | None]:
        """Return the array and its affine as they are.

        Args:
            data_array: the array.
            affine: its affine, 4 x 4.
            args: not used.
            kwargs: not used.
        """
        return data_array, affine
