"""The compiled program: the sums, and the gradient, of a range of voxels, a block of voxels at a time.

One program serves every recipe, dtype and number of classes, so it is compiled once on a machine: numba keeps it on disk, beside
this file or in its user-wide folder. A block is so short that the values of all its classes stay in the cache of a core. It is
read from memory into rows, one of each class, or where it lies there as rows of float32 already, left where it is. Then a few
voxels at a time, as many as lanes are wide, go through all classes; between the steps only what each class needs is written down.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from monai_jdt.kernels.numba.blocks import read_block, rows_of_block
from monai_jdt.kernels.numba.compilation import on_disk
from monai_jdt.kernels.numba.gradient import write_channel, write_softmax
from monai_jdt.kernels.numba.memory_rows import address_of, doubles_at, floats_at, write_row
from monai_jdt.kernels.numba.records import SOFTMAX, SUMS, Job
from monai_jdt.kernels.numba.sums import sum_channel, sum_softmax
from monai_jdt.kernels.numba.vectors import widest_vectors


def _range_program(sources: str) -> Any:
    """Return the function to compile. It encloses `sources`, which numba so takes into the key of what it has on disk."""

    @on_disk
    def run_range(job: Job, first_image: int, images: int, first: int, last: int, scratch: int, place: int) -> int:
        """Sum some voxels of some images, or write their gradient.

        Args:
            job: the step.
            first_image: the first of the images.
            images: how many images.
            first: the first voxel of each.
            last: the voxel after the last.
            scratch: address of `scratch_size` float32.
            place: address of the sums, float64 `(images, 9, C)`, which are added to; 0: the gradient is wanted.

        Returns:
            The length of `sources`: a use, without which it would not be enclosed.
        """
        # acts on this function when it is compiled, and is nothing when it runs
        widest_vectors()
        for image in range(first_image, first_image + images):
            for start in range(first, last, job.width):
                n = min(job.width, last - start)
                rows = rows_of_block(job, image, start, n, scratch)
                read_block(job, image, start, n, rows, place)
                if place != 0 and job.activation == SOFTMAX:
                    sum_softmax(job, rows, doubles_at(place))
                elif place != 0:
                    for c in range(job.channels):
                        sum_channel(job, c, rows, doubles_at(place))
                else:
                    if job.activation == SOFTMAX:
                        write_softmax(job, image, rows)
                    else:
                        for c in range(job.channels):
                            write_channel(job, image, c, rows)
                    for c in range(job.channels):
                        row, there = rows.out + c * rows.out_step, address_of(job.gradient, image, c, start)
                        if row != there:
                            write_row(job.gradient.kind, there, job.gradient.voxel, n, floats_at(row))
            if place != 0:
                place += SUMS * job.channels * 8  # bytes of a float64
        return len(sources)

    return run_range


def _sources() -> str:
    """Digest every file of this folder.

    numba's cache on disk knows the time and size of this file only. Without the others' contents in its key, an upgraded package would
    go on to run the program of the old one.
    """
    return hashlib.sha256(b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))).hexdigest()


run_range = _range_program(_sources())
