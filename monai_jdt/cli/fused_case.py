"""One case of the verb `fuse`: its raters' files become one label file, alone or as a case of a list."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from monai_jdt.data.files.atomic import whole_file
from monai_jdt.data.files.foreground import Foreground
from monai_jdt.data.files.label_pictures import write_palette_picture

if TYPE_CHECKING:
    from monai_jdt.transforms import FuseRaters


@dataclass(frozen=True)
class FusionChoice:
    """How raters are fused: the arguments of :class:`monai_jdt.transforms.FuseRaters`.

    Args:
        regions: name to label values.
        method: such as "staple".
        rater_weights: one for each rater; None: no weights.
        paper_compatible: of the method "dice_weighted".
        seed: of the method "random".
        form: "soft", "hard" (p > 0.5) or "map", one label value per voxel.
        foreground: of the raters' files; see :class:`monai_jdt.transforms.LoadRaters`.
    """

    regions: Mapping[str, tuple[int, ...]]
    method: str
    rater_weights: tuple[float, ...] | None = None
    paper_compatible: bool = False
    seed: int = 0
    form: str = "soft"
    foreground: Foreground | None = None

    def transform(self) -> FuseRaters:
        """Return the transform, which checks the arguments."""
        # MONAI's transforms take seconds to import; `--help` should not
        from monai_jdt.transforms import FuseRaters

        return FuseRaters(self.regions, self.method, self.rater_weights, self.paper_compatible, self.seed)


@dataclass(frozen=True)
class CaseToFuse:
    """One case of a list.

    Args:
        name: the case's.
        files: each rater's label map.
        folder: where the labels go.
        label: the path of its label in that folder.
        choice: how its raters are fused.
    """

    name: str
    files: tuple[str, ...]
    folder: str
    label: str
    choice: FusionChoice


def write_fused_label(files: Sequence[str], dest: str, choice: FusionChoice) -> list[int]:
    """Fuse the raters of one image, and write the label on their grid.

    Args:
        files: each rater's label map.
        dest: the file. NIfTI: float32, or whole numbers if it is hard, with the regions on the last axis if there are several. PNG: a
            palette picture whose values are the label values.
        choice: how they are fused.

    Returns:
        The label values of the raters' files, in ascending order.

    Raises:
        DataProblemError: a file that cannot be read, or another grid than the first rater's.
    """
    # imported late, as above
    import nibabel

    from monai_jdt.data.files.label_values import distinct_values
    from monai_jdt.transforms import LoadRaters, RegionForm

    votes = LoadRaters(foreground=choice.foreground)(files)
    values = RegionForm(choice.form, choice.regions)(choice.transform()(votes)).as_tensor().numpy()
    if choice.form == "soft":
        values = values.astype(np.float32)
    data = values[0] if len(values) == 1 else np.moveaxis(values, 0, -1)
    with whole_file(dest) as draft:
        if dest.lower().endswith(".png"):
            write_palette_picture(draft, data)
        else:
            nibabel.save(nibabel.Nifti1Image(data, np.asarray(votes.affine, dtype=np.float64)), draft)
    return [int(value) for value in distinct_values(votes.numpy())]


def is_png(paths: Sequence[str], choice: FusionChoice) -> bool:
    """Return whether the label of some raters is best a PNG: their files are flat pictures, and it is one map of label values.

    Args:
        paths: the raters' files.
        choice: how they are fused.
    """
    from monai_jdt.data.files.volumes import FLAT_PICTURES

    one_map = choice.form == "map" or (choice.form == "hard" and len(choice.regions) == 1)
    return one_map and all(path.lower().endswith(FLAT_PICTURES) for path in paths)


def fused_case_rows(case: CaseToFuse) -> list[dict[str, Any]]:
    """Fuse the raters of one case of a list.

    Args:
        case: its files, and how they are fused.

    Returns:
        One row: case, label, method, raters (their number), label_values (those of the raters' files, with spaces).

    Raises:
        DataProblemError: as in :func:`write_fused_label`. Then there is no label, not even that of an earlier run.
    """
    dest = os.path.join(case.folder, case.label)
    with suppress(FileNotFoundError):
        os.remove(dest)
    values = write_fused_label(case.files, dest, case.choice)
    found = " ".join(map(str, values))
    return [{"case": case.name, "label": case.label, "method": case.choice.method, "raters": len(case.files), "label_values": found}]
