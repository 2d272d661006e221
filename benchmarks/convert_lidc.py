"""Write LIDC-IDRI's arrays as the files that the commands and bundles read: one image, one mask per reader, and a data list.

    python benchmarks/convert_lidc.py lidc3d.npz DEST
    python benchmarks/convert_lidc.py lidc2d.npz DEST --step 3

Volumes become NIfTI (`DEST/<case>/image.nii.gz`, `reader1.nii.gz`, ...), slices PNG. `DEST/datalist.json` lists case, patient, image,
raters and spacing (x, y, z in mm) in the parts of the study, sections training, validation and test. The arrays do not tell where in
the body a crop lies, nor which end of a volume is the upper one: the affine has the spacing, and the origin is 0. A case that is there
is not written again. Licence and source: lidc_arrays.py beside this file.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from PIL import Image
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.lidc_arrays import RatedArray, lidc_slices, lidc_volumes, part_of
from monai_jdt.data import write_datalist
from monai_jdt.data.files.atomic import whole_folder


def convert(cases: Iterable[RatedArray], dest: Path) -> list[dict[str, Any]]:
    """Write each case into a folder of its own, and the list of all by the parts of the study. Returns the items."""
    items: list[dict[str, Any]] = []
    for case in tqdm(cases, desc="cases", disable=None):
        names = ["image", *(f"reader{number + 1}" for number in range(len(case.votes)))]
        ending = ".png" if case.image.ndim == 2 else ".nii.gz"
        folder = dest / case.name
        if not folder.exists():
            with whole_folder(folder) as draft:
                for name, array in zip(names, [case.image, *case.votes.astype(np.uint8)], strict=True):
                    write_array(Path(draft, name + ending), array, case.spacing)
        files = [str(folder / (name + ending)) for name in names]
        item: dict[str, Any] = {"case": case.name, "patient": case.patient, "image": files[0], "raters": files[1:]}
        items.append(item | ({"spacing": list(case.spacing[::-1])} if case.spacing else {}))
    sections = {part: [item for item in items if part_of(item["patient"]) == part] for part in ("training", "validation", "test")}
    write_datalist({part: own for part, own in sections.items() if own}, dest / "datalist.json")
    return items


def write_array(path: Path, array: np.ndarray, spacing: tuple[float, ...] | None) -> None:
    """Write an image `(Y, X)` as PNG, or `(Z, Y, X)` as NIfTI whose x and y run to the patient's left and back, as DICOM's do."""
    if array.ndim == 2:
        Image.fromarray(array).save(path)
        return
    z, y, x = spacing or (1.0, 1.0, 1.0)
    nibabel.save(nibabel.Nifti1Image(array.transpose(2, 1, 0), np.diag([-x, -y, z, 1.0])), path)


def main() -> None:
    """Convert one file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("arrays", type=Path, help="lidc2d.npz or lidc3d.npz")
    parser.add_argument("dest", type=Path, help="folder to write to")
    parser.add_argument("--step", type=int, default=1, help="of slices: each STEP-th one of a nodule")
    arguments = parser.parse_args()
    with np.load(arguments.arrays) as data:
        slices = "images" in data.files
    items = convert(lidc_slices(arguments.arrays, step=arguments.step) if slices else lidc_volumes(arguments.arrays), arguments.dest)
    print(f"{len(items)} cases of {len({item['patient'] for item in items})} patients: {arguments.dest / 'datalist.json'}")


if __name__ == "__main__":
    main()
