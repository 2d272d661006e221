"""Absolute paths in a text that a page shows: relative to known folders, or file names. All other text stays as it is."""

from __future__ import annotations

import pytest

from monai_jdt.report.shown_paths import shown_paths


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/home/ann/lists/raters/a.nii.gz", "raters/a.nii.gz"),
        ("/home/ann/lists/run/predictions/a b.nii.gz: expected a file", "predictions/a b.nii.gz: expected a file"),
        ("/home/ann/lists", "lists"),
        ("/home/ann/listsX/a.png", "a.png"),
        ("/mnt/J Doe/1 2.png: expected the grid of /mnt/J/x.nii, got", "1 2.png: expected the grid of x.nii, got"),
        ("c: /mnt/a b.png: expected '/mnt/c d/e.png'; /tmp/f.png: expected", "c: a b.png: expected 'e.png'; f.png: expected"),
        ("['/mnt/Jane Doe/a', \"/mnt/b/\", ~/c/d, C:\\Users\\ann\\e]", "['a', \"b\", d, e]"),
        ("~/data/brain scans", "brain scans"),
        ("OSError: No such file: '/mnt/x/y.nii.gz'\n/mnt/z.nii: expected", "OSError: No such file: 'y.nii.gz'\nz.nii: expected"),
        ("{case}/task{task}.nii.gz", "{case}/task{task}.nii.gz"),
        ("see https://monai.io/a/b, 1 / 2 of cd/m2, and/or [[1, 4]]", "see https://monai.io/a/b, 1 / 2 of cd/m2, and/or [[1, 4]]"),
        ("/mnt/ann/a.xml and /mnt/ann/b.xml: expected one XML", "a.xml and b.xml: expected one XML"),
        ("file:///home/ann/x.png: expected a file, got ../../secret/ann/y.png", "x.png: expected a file, got y.png"),
        ("", ""),
    ],
)
def test_folders_are_left_out(text: str, shown: str) -> None:
    assert shown_paths(text, ["/home/ann/lists", "/home/ann/lists/run/", "/"]) == shown
