"""Cases as `python -m monai_jdt lidc` writes them, made of phantoms in memory: crops of nodules with four readers' masks and a list."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np

from monai_jdt.data import lidc_phantom
from tests.nifti_files import save_nifti


def write_lidc_set(
    root: str | os.PathLike[str], *, patients: int = 4, shape: tuple[int, int, int] = (44, 44, 14), seed: int = 0
) -> str:
    """Write the first two nodules of some patients, cut to 24 x 24 voxels in each slice."""
    items = []
    for index in range(patients):
        case = lidc_phantom(index, shape=shape, seed=seed)
        for number, nodule in enumerate(case.nodules[:2], start=1):
            name = f"LIDC-IDRI-{9001 + index}_n{number}"
            centre = [(side.start + side.stop) // 2 for side in nodule.box[1:]]
            start = [int(np.clip(at - 12, 0, size - 24)) for at, size in zip(centre, case.image.shape[1:], strict=True)]
            part = (slice(None), slice(start[0], start[0] + 24), slice(start[1], start[1] + 24))
            affine = case.affine.copy()
            affine[:3, 3] = (affine @ [start[1], start[0], 0, 1])[:3]
            folder = Path(root) / name
            folder.mkdir(parents=True)
            save_nifti(folder / "ct.nii.gz", case.image[part].transpose(2, 1, 0), affine)
            for reader in range(4):
                mask = np.zeros(case.image.shape, np.uint8)
                if reader in nodule.marks:
                    mask[nodule.box] = nodule.marks[reader]
                save_nifti(folder / f"reader{reader + 1}.nii.gz", mask[part].transpose(2, 1, 0), affine)
            items.append(
                {
                    "case": name,
                    "patient": f"LIDC-IDRI-{9001 + index}",
                    "image": f"{name}/ct.nii.gz",
                    "raters": [f"{name}/reader{reader}.nii.gz" for reader in range(1, 5)],
                    "readers": sorted(reader + 1 for reader in nodule.marks),
                    "spacing": list(case.grid.spacing[::-1]),
                }
            )
    (Path(root) / "datalist.json").write_text(json.dumps({"training": items}))
    return str(root)
