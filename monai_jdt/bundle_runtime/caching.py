"""Fill the cache of the training cases before worker processes are started."""

from __future__ import annotations

from typing import Any

from monai_jdt.bundle_runtime.exits import exit_if_known
from monai_jdt.progress_bar import with_progress


def fill_cache(dataset: Any, progress: bool = True) -> None:
    """Read every case of a :class:`monai.data.CacheDataset` into its cache, in this thread.

    A worker process fills its own copy of a cache, and the copy ends with the worker. With `runtime_cache="threads"` and workers,
    every case would be read again in each epoch, or once by each worker if workers persist. Workers that are started after the
    cache was filled share its memory. MONAI's other modes are no alternative: `runtime_cache="processes"` keeps one file
    descriptor open for each tensor in the cache, and an error in the threads of `runtime_cache=False` can abort the interpreter.

    Args:
        dataset: the data set.
        progress: whether to show a progress bar.

    Raises:
        SystemExit: with code 1, after one line, if a file cannot be used.
    """
    try:
        for number in with_progress(range(len(dataset)), "loading the cases", wanted=progress):
            dataset[number]
    except Exception as error:
        exit_if_known(error)
        raise
