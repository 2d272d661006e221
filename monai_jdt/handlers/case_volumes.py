"""Write one file for each case of an evaluator's run: probabilities, or masks."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from monai.data.meta_tensor import MetaTensor
from monai.data.utils import to_affine_nd
from monai.utils import optional_import

from monai_jdt.data.files.atomic import whole_file
from monai_jdt.data.files.label_pictures import write_palette_picture
from monai_jdt.data.names import safe_relative_name
from monai_jdt.handlers.case_figure import decollated
from monai_jdt.validation import error_sentence

if TYPE_CHECKING:
    from ignite.engine import Engine

_Events, _ = optional_import("ignite.engine", name="Events")
_idist, _ = optional_import("ignite.distributed")

_NIFTI, _PICTURE = ".nii.gz", ".png"


class CaseVolumeWriter:
    """Write what an evaluator's items hold under a key, on the voxels of the image's file: `folder/<case>.nii.gz`.

    If a spatial transform has not been inverted, the voxels are those of the tensor, with its affine. Several channels lie on a last
    axis. A name that leads out of the folder is changed by :func:`monai_jdt.data.names.safe_relative_name`. The files stand in
    `folder/.unfinished` until the evaluator has run through, and then replace earlier ones, so that a run that is killed leaves the
    files of the run before.

    Args:
        folder: where the files go; it is made.
        key: the key of a tensor `(C, *S)`. Its metadata say where the voxels lie.
        ending: ".nii.gz"; or ".png" for one channel of a flat image: a grey picture, 255 for 1, or of a tensor of whole numbers a
            palette of these numbers, as of :func:`monai_jdt.data.files.label_pictures.write_palette_picture`.
        dtype: of the numbers in a NIfTI file.
        case_key: key of the case's name.

    Raises:
        ValueError: another ending; while the engine runs, a picture of several channels or of a volume, or two cases of one name.
        DataProblemError: while the engine runs, whole numbers that a palette cannot hold.

    Example:
        >>> CaseVolumeWriter("eval/scored", "prob").attach(evaluator)  # doctest: +SKIP
    """

    def __init__(
        self, folder: str | os.PathLike[str], key: str, ending: str = _NIFTI, dtype: Any = np.float32, case_key: str = "case"
    ) -> None:
        if ending not in (_NIFTI, _PICTURE):
            raise ValueError(error_sentence("ending", f"{_NIFTI} or {_PICTURE}", repr(ending), f"pass {_NIFTI}"))
        self.folder = Path(folder)
        self.key = key
        self.ending = ending
        self.dtype = np.dtype(dtype)
        self.case_key = case_key
        self._draft = self.folder / ".unfinished"
        self._names: list[str] = []

    def attach(self, engine: Engine) -> None:
        """Write each item of the evaluator, after its postprocessing."""
        engine.add_event_handler(_Events.STARTED, self._start)
        engine.add_event_handler(_Events.ITERATION_COMPLETED, self)
        engine.add_event_handler(_Events.COMPLETED, self._finish)

    def _start(self, engine: Engine) -> None:
        self._names = []
        if _idist.get_rank() == 0:
            shutil.rmtree(self._draft, ignore_errors=True)  # of a run that was killed
        _idist.barrier()

    def __call__(self, engine: Engine) -> None:
        """Write the items of the iteration that the engine has just done."""
        for item in decollated(engine):
            name = safe_relative_name(item[self.case_key]) + self.ending
            if name in self._names:
                fix = "give each case of the data list a name of its own"
                raise ValueError(error_sentence(self.case_key, "cases whose names differ", f"{item[self.case_key]!r} twice", fix))
            with whole_file(self._draft / name) as draft:
                _write_volume(draft, item[self.key], self.dtype)
            self._names.append(name)

    def _finish(self, engine: Engine) -> None:
        for name in self._names:
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(self._draft / name, self.folder / name)
        _idist.barrier()
        if _idist.get_rank() == 0:
            shutil.rmtree(self._draft, ignore_errors=True)


def _write_volume(path: str, tensor: torch.Tensor, dtype: np.dtype) -> None:
    values = torch.as_tensor(tensor).detach().cpu().numpy()
    if path.endswith(_PICTURE):
        from PIL import Image

        if len(values) != 1 or values[0].ndim != 2:
            raise ValueError(
                error_sentence("ending", "one channel of a flat image for .png", f"shape {values.shape}", f"pass {_NIFTI}")
            )
        if values.dtype.kind in "iub":
            write_palette_picture(path, values[0])
            return
        # a picture's rows are the second axis
        Image.fromarray(np.rint(values[0].T * 255).astype(np.uint8)).save(path)
        return
    import nibabel

    own, stored, space = _places(tensor)
    same_shape = [edge for edge in space if edge != 1] == [edge for edge in values.shape[1:] if edge != 1]
    # a transform that was inverted is no longer among the applied ones
    is_moved = bool(getattr(tensor, "applied_operations", ())) and not (same_shape and np.allclose(own, stored, atol=1e-4))
    if same_shape and not is_moved:
        # with axes of length 1, as in the image's file
        values = values.reshape(-1, *space)
    data = values[0] if len(values) == 1 else np.moveaxis(values, 0, -1)
    nibabel.save(nibabel.Nifti1Image(data.astype(dtype, copy=False), own if is_moved else stored), path)


def _places(tensor: torch.Tensor) -> tuple[np.ndarray, np.ndarray, tuple[int, ...]]:
    """Return the affine of a tensor, and affine and shape of the file that it comes from."""
    meta = tensor.meta if isinstance(tensor, MetaTensor) else {}
    own = np.asarray(getattr(tensor, "affine", np.eye(4)), np.float64)
    stored = np.asarray(meta.get("original_affine", own), np.float64)
    return to_affine_nd(3, own), to_affine_nd(3, stored), tuple(int(edge) for edge in meta.get("spatial_shape", ()))
