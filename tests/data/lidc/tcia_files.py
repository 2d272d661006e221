"""Small CT series in DICOM and XML files as TCIA hands them out, written by SimpleITK and as text, for tests of their readers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK

from monai_jdt.data.files.kept_locale import kept_locale

SERIES = "1.2.826.0.1.3680043.2.1125.1"
STUDY = "1.2.826.0.1.3680043.2.1125.9"
POSITIONS = tuple(-10.0 + 2.5 * k for k in range(6))
SIZE = (24, 20)  # columns and rows
SPACING = (0.5, 0.75)  # between columns and between rows

Roi = tuple[float, Sequence[tuple[int, int]], bool]


def sop_uid(series: str, z: float) -> str:
    return f"{series}.{round(1000 + 10 * z)}"


def hounsfield(z: float, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Voxels `(columns, rows)` in which each place has its own value."""
    x, y = np.meshgrid(np.arange(size[0]), np.arange(size[1]), indexing="ij")
    return (-1000 + 7 * x + 31 * y + 10 * z).astype(np.int16)


def write_slice(path: Path, z: float, voxels: np.ndarray | None = None, **changed: str) -> Path:
    """Write one slice. `changed` has DICOM's values by the names of `tags`."""
    tags = {
        "modality": ("0008|0060", "CT"),
        "sop": ("0008|0018", sop_uid(changed.get("series", SERIES), z)),
        "patient": ("0010|0020", "LIDC-IDRI-0001"),
        "study": ("0020|000d", STUDY),
        "series": ("0020|000e", SERIES),
        "instance": ("0020|0013", str(round(100 - z))),
        "position": ("0020|0032", f"-30.5\\-20.25\\{z}"),
        "orientation": ("0020|0037", "1\\0\\0\\0\\1\\0"),
        "intercept": ("0028|1052", "-1024"),
        "slope": ("0028|1053", "1"),
    }
    voxels = hounsfield(z) if voxels is None else voxels
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(voxels.T[None]))
    image.SetSpacing((*SPACING, 2.5))
    for name, (tag, value) in tags.items():
        image.SetMetaData(tag, changed.get(name, value))
    writer = SimpleITK.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    writer.SetFileName(str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    with kept_locale():
        writer.Execute(image)
    return path


def write_series(folder: Path, positions: Sequence[float] = POSITIONS, **changed: str) -> list[Path]:
    """Write a series with names that are not in the order of the slices."""
    count = len(positions)
    return [write_slice(folder / f"1-{(7 * k) % count + 1:03d}.dcm", z, None, **changed) for k, z in enumerate(positions)]


def square(x: int, y: int, edge: int, z: float, inclusion: bool = True) -> Roi:
    """An outline around `edge - 1` by `edge - 1` pixels."""
    return z, [(x, y), (x + edge, y), (x + edge, y + edge), (x, y + edge), (x, y)], inclusion


def nodule(name: str, rois: Sequence[Roi], series: str = SERIES, ratings: str = "<malignancy>4</malignancy>") -> str:
    parts = []
    for z, points, inclusion in rois:
        edges = "".join(f"<edgeMap><xCoord>{x}</xCoord><yCoord>{y}</yCoord></edgeMap>" for x, y in points)
        head = f"<imageZposition>{z} </imageZposition><imageSOP_UID>{sop_uid(series, z)}</imageSOP_UID>"
        parts.append(f"<roi>{head}<inclusion>{str(inclusion).upper()}</inclusion>{edges}</roi>")
    rated = f"<characteristics>{ratings}</characteristics>" if ratings else ""
    return f"<unblindedReadNodule><noduleID>{name}</noduleID>{rated}{''.join(parts)}</unblindedReadNodule>"


_LOCUS = "<imageZposition>0</imageZposition><locus><xCoord>1</xCoord><yCoord>1</yCoord></locus>"
NON_NODULE = f"<nonNodule><nonNoduleID>x</nonNoduleID>{_LOCUS}</nonNodule>"


def annotation_text(sessions: Sequence[str], series: str = SERIES, root: str = "LidcReadMessage", **extra: Any) -> str:
    head = (
        f"<ResponseHeader><SeriesInstanceUid>{series}</SeriesInstanceUid><StudyInstanceUID>{STUDY}</StudyInstanceUID></ResponseHeader>"
    )
    body = "".join(f"<readingSession><annotationVersion>3.12</annotationVersion>{session}</readingSession>" for session in sessions)
    return f'<?xml version="1.0" encoding="UTF-8"?>{extra.get("doctype", "")}<{root} xmlns="http://www.nih.gov">{head}{body}</{root}>'


def four_readers(series: str = SERIES) -> list[str]:
    """One nodule by three readers, with a hole by the first; one by the second reader alone; a small one; something else."""
    near = [nodule("a", [square(4 + k, 5, 6, z) for z in (-5.0, -2.5)], series) for k in range(2)]
    near[0] = nodule("a", [square(4, 5, 6, -5.0), square(4, 5, 6, -2.5), square(6, 7, 1, -2.5, False)], series)
    far = nodule("b", [square(16, 12, 4, 0.0)], series, ratings="")
    small = nodule("c", [(0.0, [(3, 3)], True)], series, ratings="")
    return [near[0], near[1] + far, nodule("a", [square(4, 6, 6, -2.5)], series) + small, NON_NODULE]


def write_scan(folder: Path, positions: Sequence[float] = POSITIONS, sessions: Sequence[str] | None = None, **changed: str) -> Path:
    """Write a series and its XML in one folder."""
    series = changed.get("series", SERIES)
    write_series(folder, positions, **changed)
    (folder / "069.xml").write_text(annotation_text(four_readers(series) if sessions is None else sessions, series))
    return folder
