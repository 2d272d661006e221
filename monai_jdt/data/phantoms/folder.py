"""A folder of phantoms: there as a whole or not at all, with the same bytes for the same settings. Other files are never replaced."""

from __future__ import annotations

import gzip
import json
import logging
import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from monai_jdt.data.files.atomic import whole_folder
from monai_jdt.validation import error_sentence

logger = logging.getLogger(__name__)

#: The name of the file with the settings of a folder of phantoms.
MANIFEST = "phantom.json"


def make_phantom_folder(root: str, settings: Mapping[str, Any], readme: str, fill: Callable[[str], None]) -> str:
    """Make a folder of phantoms, or use the one that was made with the same settings.

    The folder is filled under another name beside `root` and then renamed. Of two processes that make the same set at once, one wins,
    and both use its files.

    Args:
        root: the folder to make. It may exist if it is empty.
        settings: everything that the content depends on, JSON-plain, with "layout", "cases" and "seed".
        readme: the text of its README.txt.
        fill: a function that writes the cases into the folder that it is given.

    Returns:
        `root`.

    Raises:
        ValueError: for a seed below 0.
        FileExistsError: if `root` is there and is anything but an empty folder or the same phantoms.
    """
    if settings["seed"] < 0:
        raise ValueError(error_sentence("seed", "a whole number >= 0", str(settings["seed"]), "pass 0"))
    if _is_made(root, settings):
        logger.info("phantoms (synthetic, no patients) are in %s already: reused", root)
        return root
    try:
        with whole_folder(root) as draft:
            fill(draft)
            write_phantom_text(os.path.join(draft, "README.txt"), readme)
            write_phantom_text(os.path.join(draft, MANIFEST), json.dumps(_manifest(settings), indent=2))
    except OSError:
        if not _is_made(root, settings):  # raises if something else is there now
            raise
        logger.info("phantoms in %s were made by another process meanwhile: used", root)
        return root
    layout, cases, seed = (settings[key] for key in ("layout", "cases", "seed"))
    logger.info("made %d phantoms (synthetic, no patients) in %s: layout %s, seed %d", cases, root, layout, seed)
    return root


def write_phantom_volume(path: str, array: np.ndarray, affine: np.ndarray) -> None:
    """Write a NIfTI file whose bytes depend on voxels and affine only. Its folder is made.

    Args:
        path: the `.nii.gz` file.
        array: the voxels.
        affine: `(4, 4)`, voxels to mm.
    """
    import nibabel

    image = nibabel.Nifti1Image(np.asarray(array), affine)
    image.header.set_xyzt_units("mm")
    image.set_qform(affine, code=1)
    image.set_sform(affine, code=1)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    # nibabel's own writer puts the time into the gzip header: equal phantoms would differ in bytes.
    with open(path, "wb") as file:
        file.write(gzip.compress(image.to_bytes(), compresslevel=1, mtime=0))


def write_phantom_text(path: str, text: str) -> None:
    """Write a text file that ends in a new line.

    Args:
        path: the file.
        text: its content.
    """
    with open(path, "w", encoding="utf-8") as file:
        file.write(text + "\n")


def _manifest(settings: Mapping[str, Any]) -> dict[str, Any]:
    from monai_jdt import __version__

    return {"what": "phantoms: synthetic data, no patients", "monai_jdt": __version__, "settings": settings}


def _is_made(root: str, settings: Mapping[str, Any]) -> bool:
    """Return whether these phantoms are there. False: nothing is. Raise FileExistsError for anything else."""
    if not os.path.lexists(root):
        return False

    def refusal(got: str) -> FileExistsError:
        return FileExistsError(error_sentence(root, "a free name or these phantoms", got, "name another folder, or remove this one"))

    if not os.path.isdir(root):
        raise refusal("a file")
    content = os.listdir(root)
    if not content:
        return False
    if MANIFEST not in content:
        raise refusal("a folder of other files")
    try:
        with open(os.path.join(root, MANIFEST), encoding="utf-8") as file:
            made = json.load(file)["settings"]
        differing = sorted(key for key in {*made, *settings} if made.get(key) != settings.get(key))
    except (ValueError, KeyError, TypeError) as error:
        raise refusal(f"a {MANIFEST} that cannot be read ({error})") from error
    if differing:
        raise refusal("phantoms with " + ", ".join(f"{key} {made.get(key)!r} instead of {settings.get(key)!r}" for key in differing))
    return True
