"""The arguments of a picture of a case: checked, and turned into one form."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from monai_jdt.data.files.label_values import distinct_values
from monai_jdt.data.names import one_line
from monai_jdt.raters.region_names import RegionSpec, named_regions
from monai_jdt.raters.votes import rater_shares
from monai_jdt.report.intensities import CT_WINDOWS, is_photograph
from monai_jdt.report.layout import fitted
from monai_jdt.report.regions_shown import CaseArrays
from monai_jdt.validation import error_sentence


def check_arrays(
    image: np.ndarray,
    prediction: np.ndarray | None,
    votes: np.ndarray | None,
    average: np.ndarray | None,
    truth: np.ndarray | None,
    regions: RegionSpec | None,
    rater_weights: Sequence[float] | None,
) -> CaseArrays:
    """Check the arrays of a case, give each a depth axis, and leave out missing raters.

    Args:
        image: as in :func:`monai_jdt.report.case_picture`, and so are the others.
        prediction: predicted probabilities.
        votes: label values.
        average: the raters' average.
        truth: true probabilities.
        regions: the channels.
        rater_weights: 0 = missing.

    Raises:
        ValueError: if there is neither `votes` nor `average`, or shapes do not fit.
    """
    if votes is None and average is None:
        raise ValueError(error_sentence("votes", "`votes` or `average`", "neither", "pass the raters' label maps, or their average"))
    image = _with_depth("image", image)
    space = image.shape[1:]
    if votes is not None:
        votes = _present_raters(votes, rater_weights)
        _same_space("votes", votes, space)
    stacks = {"prediction": prediction, "average": average, "truth": truth}
    channels = next((len(array) for array in stacks.values() if array is not None), 1)
    groups = _regions_of(regions, votes, channels)
    for name, array in stacks.items():
        if array is None:
            continue
        stacks[name] = array = _with_depth(name, array)
        if len(array) != len(groups):
            fix = "name the regions of its channels by `regions`" if regions is None else "give one channel for each region"
            expected = f"a {name} of {len(groups)} channels, one for each of {', '.join(groups)}"
            raise ValueError(error_sentence(name, expected, str(len(array)), fix))
        _same_space(name, array, space)
    return CaseArrays(image, stacks["prediction"], votes, stacks["average"], stacks["truth"], groups)


def _present_raters(votes: np.ndarray, rater_weights: Sequence[float] | None) -> np.ndarray:
    """Return the stack with a depth axis and without its missing raters."""
    votes = _with_depth("votes", votes)
    if rater_weights is not None:
        there = rater_shares(rater_weights, len(votes)).numpy() > 0
        votes = votes if there.all() else votes[there]
    if votes.dtype.kind not in "iub" or len(votes) == 0:
        raise ValueError(error_sentence("votes", "label values of at least one rater, integers", f"{votes.dtype} {votes.shape}"))
    return votes


def _regions_of(regions: RegionSpec | None, votes: np.ndarray | None, channels: int) -> dict[str, tuple[int, ...]]:
    """Return name and label values of each region. Without names, name each label value of the votes, or number the channels."""
    if regions is not None:
        return named_regions(regions)
    if votes is None:
        return {f"channel {k}": () for k in range(channels)}
    values = [int(v) for v in distinct_values(votes) if v != 0] or [1]
    return {f"label {value}": (value,) for value in values}


def _with_depth(name: str, array: np.ndarray) -> np.ndarray:
    array = np.asarray(array)
    if array.ndim == 3:
        array = array[..., None]
    if array.ndim != 4 or 0 in array.shape:
        raise ValueError(error_sentence(name, "an array (C, X, Y, Z) or (C, X, Y)", f"shape {array.shape}"))
    return array


def _same_space(name: str, array: np.ndarray, space: tuple[int, ...]) -> None:
    if array.shape[1:] != space:
        raise ValueError(error_sentence(name, f"a {name} on the image's {space} voxels", str(array.shape[1:])))


def check_rater_names(names: Sequence[str] | None, weights: Sequence[float] | None, votes: np.ndarray | None) -> list[str]:
    """Return the names of the raters that are there, as matplotlib writes them.

    Args:
        names: R names; None numbers the raters.
        weights: R weights, 0 = missing; None: all raters are there.
        votes: the stack `(R, *S)`; None: nobody is named.

    Raises:
        ValueError: for other than R names.
    """
    if votes is None:
        return []
    raters = len(votes)
    if names is not None and len(names) != raters:
        raise ValueError(error_sentence("rater_names", f"{raters} names", str(len(names))))
    # matplotlib reads $ as mathematics, and leaves out labels that begin with _
    given = [f"rater {r + 1}" for r in range(raters)] if names is None else [one_line(name).lstrip("_") or "?" for name in names]
    every = [fitted(name, 9, 2.2).replace("$", r"\$") for name in given]
    return every if weights is None else [name for name, weight in zip(every, weights, strict=True) if weight > 0]


def check_channels(channel: int | Sequence[int] | None, grey_channel: int, arrays: CaseArrays) -> list[int | None]:
    """Return the image channel that each region is drawn on, or None for the colours of a photograph.

    Args:
        channel: one for all regions, or one for each; None: colours of a photograph, else `grey_channel`.
        grey_channel: from 0, or from -1 backwards.
        arrays: gives the image and the regions.

    Raises:
        ValueError: for a channel that the image does not have, or another number of channels than regions.
    """
    if channel is None:
        if is_photograph(arrays.image):
            return [None] * len(arrays.regions)
        if not -len(arrays.image) <= grey_channel < len(arrays.image):
            raise ValueError(
                error_sentence("grey_channel", f"a number from -{len(arrays.image)} to {len(arrays.image) - 1}", repr(grey_channel))
            )
        channel = grey_channel % len(arrays.image)
    chosen = [channel] * len(arrays.regions) if isinstance(channel, int) else list(channel)
    if len(chosen) != len(arrays.regions) or not all(0 <= c < len(arrays.image) for c in chosen):
        expected = f"a number below {len(arrays.image)}, or {len(arrays.regions)} of them"
        raise ValueError(error_sentence("channel", expected, repr(channel)))
    return list(chosen)


def known_affine(affine: np.ndarray | None, arrays: CaseArrays) -> np.ndarray | None:
    """Return the affine, or None if it says nothing.

    Args:
        affine: `(4, 4)`, voxels to mm, or None.
        arrays: a single slice with an axis-parallel affine at the origin has no known place in the body.
    """
    if affine is None:
        return None
    affine = np.asarray(affine, dtype=np.float64)
    # arrays without a place, pictures among them, are given the identity by most tools
    plain = np.array_equal(affine[:3, :3], np.diag(np.abs(np.diag(affine)[:3]))) and not affine[:3, 3].any()
    return None if plain and arrays.image.shape[3] == 1 else affine


def three_spacings(spacing: Sequence[float] | None) -> tuple[float, ...] | None:
    """Return the voxel sizes along three axes, 1 for an axis that is not given."""
    return None if spacing is None else tuple(float(s) for s in [*spacing, 1.0, 1.0][:3])


def check_window(window: str | Sequence[float] | None) -> str | tuple[float, float] | None:
    """Return the name of a CT window, or (low, high), or None.

    Raises:
        ValueError: for an unknown name.
    """
    if isinstance(window, str):
        if window not in CT_WINDOWS:
            raise ValueError(error_sentence("window", f"one of {', '.join(CT_WINDOWS)}, or (low, high)", repr(window)))
        return window
    return None if window is None else (float(window[0]), float(window[1]))


def check_axis(axis: int) -> int:
    """Return the axis that is cut.

    Raises:
        ValueError: for other than 0, 1 or 2.
    """
    if axis not in (0, 1, 2):
        raise ValueError(error_sentence("axis", "0, 1 or 2", repr(axis)))
    return axis
