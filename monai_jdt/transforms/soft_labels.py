"""Transforms that make labels soft, make channels of label values, and make labels right again after resampling."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data.meta_tensor import MetaTensor
from monai.networks.layers import GaussianFilter
from monai.transforms.transform import MapTransform, Transform
from monai.utils import convert_to_tensor, ensure_tuple_rep

from monai_jdt.data.label_values import LARGEST_LABEL, WHOLE_TOLERANCE
from monai_jdt.raters.fusion import RegionSpec, fuse_average, named_regions
from monai_jdt.transforms.raters import with_meta_of

_SMOOTHINGS = ("uniform", "boundary", "gaussian")


class SmoothLabel(Transform):
    """Make a label softer, in 1 to 3 space dimensions.

    With e = `epsilon` and C channels, a voxel's label t becomes `(1 - e) t + e / C` (`softmax=True`, as the losses'
    `label_smoothing`) or, for channels that are regions, `(1 - e) t + e / 2`:

    * `"uniform"`: at every voxel;
    * `"boundary"`: only at voxels within k of a border, in the square or cube of side 2k + 1 around them: with `softmax=True` at
      voxels where another class is the largest somewhere in that window, otherwise in each channel where t > .5 changes there
      (k = 3, e = .5 in the published configuration of arXiv:2303.16296). The image's own edge is no border;
    * `"gaussian"`: each channel is blurred with a Gaussian of `sigma`, the weights at a voxel normalised over the image, so that
      nothing comes in from outside: channels that sum to 1 still do. This one is in voxels, not in mm.

    Args:
        mode: one of the above.
        epsilon: e in [0, 1]; not used by `"gaussian"`.
        k: half width of the window in voxels, at least 1; for `"boundary"` only.
        sigma: of the Gaussian in voxels, positive; for `"gaussian"` only.
        softmax: whether the channels are classes that sum to 1, or regions each by itself.

    Raises:
        ValueError: if an argument is out of its range.

    Example:
        >>> SmoothLabel("uniform", epsilon=0.2)(torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
        metatensor([[0.1000, 0.9000],
                [0.9000, 0.1000]])
        >>> SmoothLabel("boundary", epsilon=0.5, k=1, softmax=False)(torch.tensor([[0.0, 0.0, 0.0, 1.0, 1.0, 1.0]]))
        metatensor([[0.0000, 0.0000, 0.2500, 0.7500, 1.0000, 1.0000]])
    """

    def __init__(self, mode: str = "uniform", epsilon: float = 0.1, k: int = 3, sigma: float = 1.0, softmax: bool = True) -> None:
        if mode not in _SMOOTHINGS:
            raise ValueError(f"mode: expected one of {_SMOOTHINGS}, got {mode!r}")
        if not 0 <= epsilon <= 1:
            raise ValueError(f"epsilon: expected a number in [0, 1], got {epsilon!r}")
        if isinstance(k, bool) or not isinstance(k, int) or k < 1:
            raise ValueError(f"k: expected a whole number of voxels, at least 1, got {k!r}")
        if not 0 < sigma < float("inf"):
            raise ValueError(f"sigma: expected a positive number of voxels, got {sigma!r}")
        self.mode = mode
        self.epsilon = epsilon
        self.k = k
        self.sigma = sigma
        self.softmax = softmax

    def __call__(self, label: torch.Tensor) -> MetaTensor:
        """Smooth.

        Args:
            label: `(C, *S)` in [0, 1], any real dtype.

        Returns:
            `(C, *S)` in [0, 1], float32 (float64 for float64), with the affine and meta of the label.

        Raises:
            ValueError: for other than 1 to 3 space dimensions, or `softmax` with one channel.
        """
        plain = convert_to_tensor(label, track_meta=False)
        if not 2 <= plain.ndim <= 4:
            raise ValueError(f"label: expected (C, *S) with 1 to 3 space dimensions, got shape {tuple(plain.shape)}")
        if self.softmax and len(plain) == 1:
            raise ValueError("label: expected at least 2 channels with softmax=True, got 1. Fix: softmax=False, or one-hot channels")
        plain = plain if plain.dtype == torch.float64 else plain.to(torch.float32)
        if self.mode == "gaussian":
            return with_meta_of(label, self._blurred(plain))
        smooth = torch.lerp(plain, torch.full_like(plain, 1 / len(plain) if self.softmax else 0.5), self.epsilon)
        if self.mode == "boundary":
            smooth = torch.where(self._near_a_border(plain), smooth, plain)
        return with_meta_of(label, smooth)

    def _blurred(self, label: torch.Tensor) -> torch.Tensor:
        blur = GaussianFilter(label.ndim - 1, self.sigma).to(label)
        inside = blur(torch.ones_like(label[None, :1]))
        return (blur(label[None]) / inside)[0].clamp(0, 1)

    def _near_a_border(self, label: torch.Tensor) -> torch.Tensor:
        """Bool `(C, *S)`, or `(1, *S)` for classes: whether the window around a voxel holds both sides of a border."""
        if self.softmax:
            winner = label.argmax(0, keepdim=True)
            return _largest_around(winner.to(label.dtype), self.k) != -_largest_around(-winner.to(label.dtype), self.k)
        inside = (label > 0.5).to(label.dtype)
        return _largest_around(inside, self.k) != -_largest_around(-inside, self.k)


def _largest_around(values: torch.Tensor, k: int) -> torch.Tensor:
    """The maximum over the window of side 2k + 1, one axis after the other; what is outside the image does not count."""
    for axis in range(1, values.ndim):
        rows = values.movedim(axis, -1)
        flat = rows.reshape(1, -1, rows.shape[-1])
        pooled = torch.nn.functional.max_pool1d(flat, 2 * k + 1, stride=1, padding=k)
        values = pooled.reshape(rows.shape).movedim(-1, axis)
    return values


class SmoothLabeld(MapTransform):
    """Dictionary version of :class:`SmoothLabel`.

    Args:
        keys: keys of the labels.
        mode: see :class:`SmoothLabel`.
        epsilon: see :class:`SmoothLabel`.
        k: see :class:`SmoothLabel`.
        sigma: see :class:`SmoothLabel`.
        softmax: see :class:`SmoothLabel`.
        allow_missing_keys: leave out a key that the item does not have.

    Raises:
        ValueError: as :class:`SmoothLabel`.
    """

    def __init__(
        self,
        keys: KeysCollection,
        mode: str = "uniform",
        epsilon: float = 0.1,
        k: int = 3,
        sigma: float = 1.0,
        softmax: bool = True,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.smoother = SmoothLabel(mode, epsilon, k, sigma, softmax)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Smooth each key's label; the item given is not changed."""
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.smoother(d[key])
        return d


class RestoreSoftLabel(Transform):
    """Make a soft label right again after resampling, which overshoots, rounds, and fills with 0 where the image ends.

    Values are clamped to [0, 1], and NaN becomes 0. With `softmax=True` the channels sum to 1 again: what is missing is given to
    the background; where the sum is above 1, all channels are divided by it. In order:

        t <- clamp(t, 0, 1);   m = 1 - sum_c t_c;   m > 0: t_background += m;   m < 0: t /= sum_c t_c

    Args:
        softmax: whether the channels are classes that sum to 1; False for regions, which are clamped only.
        background: the channel that takes the missing mass.

    Example:
        >>> RestoreSoftLabel()(torch.tensor([[0.7, 0.0, 0.9], [0.3, 0.0, 0.3], [-0.1, 0.0, 0.0]]))
        metatensor([[0.7000, 1.0000, 0.7500],
                [0.3000, 0.0000, 0.2500],
                [0.0000, 0.0000, 0.0000]])
    """

    def __init__(self, softmax: bool = True, background: int = 0) -> None:
        self.softmax = softmax
        self.background = background

    def __call__(self, label: torch.Tensor) -> MetaTensor:
        """Restore.

        Args:
            label: `(C, *S)`, any real dtype.

        Returns:
            `(C, *S)`, float32 (float64 for float64), in [0, 1], with the affine, meta and operations of the label.

        Raises:
            ValueError: with `softmax`, for one channel or a background that is none of them.
        """
        plain = convert_to_tensor(label, track_meta=False)
        plain = plain if plain.dtype == torch.float64 else plain.to(torch.float32)
        values = torch.nan_to_num(plain, nan=0.0).clamp(0, 1)
        if self.softmax:
            self._check(values)
            missing = 1 - values.sum(0)
            values[self.background] += missing.clamp(min=0)
            values = torch.where(missing < 0, values / values.sum(0), values).clamp_(0, 1)
        return with_meta_of(label, values)

    def mass(self, label: torch.Tensor) -> torch.Tensor:
        """How much of a voxel came from inside the image: the sum of its channels, `(1, *S)`.

        For a label of classes only; 1 inside, 0 where nothing was known, in between at the edge.
        """
        plain = convert_to_tensor(label, track_meta=False)
        self._check(plain)
        return torch.nan_to_num(plain.to(torch.promote_types(plain.dtype, torch.float32)), nan=0.0).clamp(0, 1).sum(0, keepdim=True)

    def _check(self, label: torch.Tensor) -> None:
        if label.ndim < 1 or len(label) < 2:
            fix = "softmax=False for regions, or one-hot channels"
            raise ValueError(f"label: expected at least 2 channels with softmax=True, got shape {tuple(label.shape)}. Fix: {fix}")
        if not -len(label) <= self.background < len(label):
            raise ValueError(f"background: expected one of {len(label)} channels, got {self.background}")


class RestoreSoftLabeld(MapTransform):
    """Dictionary version of :class:`RestoreSoftLabel`, to stand after the spatial transforms.

    Args:
        keys: keys of the labels.
        softmax: see :class:`RestoreSoftLabel`.
        background: see :class:`RestoreSoftLabel`.
        mask_keys: where masks go, one a key: bool `(1, *S)`, False where more than half of the voxel's mass was missing, that
            is, got from outside the image; as the losses' `mask` takes it. Needs `softmax`, and labels that summed to 1 before,
            padded with zeros. None: no masks.
        allow_missing_keys: leave out a key that the item does not have.

    Raises:
        ValueError: as :class:`RestoreSoftLabel`, and for `mask_keys` without `softmax`.

    Example:
        >>> restore = RestoreSoftLabeld("label", mask_keys="mask")
        >>> restore({"label": torch.tensor([[0.5, 0.0], [0.5, 0.1]])})["mask"]
        metatensor([[ True, False]])
    """

    def __init__(
        self,
        keys: KeysCollection,
        softmax: bool = True,
        background: int = 0,
        mask_keys: KeysCollection | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if mask_keys is not None and not softmax:
            raise ValueError("mask_keys: expected None with softmax=False, since regions tell nothing of what is missing")
        self.mask_keys = (None,) * len(self.keys) if mask_keys is None else ensure_tuple_rep(mask_keys, len(self.keys))
        self.restorer = RestoreSoftLabel(softmax, background)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Restore each key's label; the item given is not changed."""
        d = dict(data)
        for key, mask_key in self.key_iterator(d, self.mask_keys):
            label = d[key]
            d[key] = self.restorer(label)
            if mask_key is not None:
                d[mask_key] = with_meta_of(label, self.restorer.mass(label) >= 0.5)
        return d


class RestoreVotes(Transform):
    """Make votes whole numbers of an integer dtype again after a spatial transform, which gives floats even with nearest neighbour.

    Label values must never be mixed: halfway between 1 and 4 lies no 2. So values further from a whole number than
    :data:`monai_jdt.data.label_values.WHOLE_TOLERANCE`, which is room for a header's scale factor, are an error.

    Example:
        >>> RestoreVotes()(torch.tensor([[0.0, 1.0, 4.0]]))
        metatensor([[0, 1, 4]], dtype=torch.uint8)
    """

    def __call__(self, votes: torch.Tensor) -> MetaTensor:
        """Restore.

        Args:
            votes: `(R, *S)`, whole numbers of any real dtype, within int16.

        Returns:
            The votes, uint8 where every value fits, else int16, with the affine, meta and operations they had.

        Raises:
            ValueError: for values that are not whole numbers within int16.
        """
        plain = convert_to_tensor(votes, track_meta=False)
        if plain.is_floating_point():
            nearest = plain.round()
            whole = (plain - nearest).abs() <= WHOLE_TOLERANCE  # False for NaN
            if not whole.all():
                fix = "mode='nearest' for the votes in every spatial transform"
                raise ValueError(f"votes: expected whole label values, got {plain[~whole][0].item():.6g}. Fix: {fix}")
            plain = nearest
        if plain.is_floating_point() or plain.element_size() > 2:  # a narrower dtype has no such values, and compares wrongly
            wide = (plain > LARGEST_LABEL) | (plain < -LARGEST_LABEL)
            if wide.any():
                got = int(plain[wide][0])
                raise ValueError(f"votes: expected whole label values within int16, got {got}. Fix: number the labels anew")
        small = plain.numel() == 0 or (int(plain.min()) >= 0 and int(plain.max()) <= 255)
        return with_meta_of(votes, plain.to(torch.uint8 if small else torch.int16))


class RestoreVotesd(MapTransform):
    """Dictionary version of :class:`RestoreVotes`.

    Args:
        keys: keys of the rater stacks.
        allow_missing_keys: leave out a key that the item does not have.

    Raises:
        ValueError: when called, as :class:`RestoreVotes`.
    """

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.restorer = RestoreVotes()

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Restore each key's stack; the item given is not changed."""
        d = dict(data)
        for key in self.key_iterator(d):
            try:
                d[key] = self.restorer(d[key])
            except ValueError as error:
                raise ValueError(f"{key!r}: {error}") from error
        return d


class LabelRegions(Transform):
    """One label map to a channel a region, by a data set's convention.

    Args:
        regions: `"brats2018"`, `"brats2021"`, `"brats2023"`, `"brats2024"`, `"msd"` (see
            :data:`monai_jdt.data.regions.REGION_CONVENTIONS`), or any spelling of :func:`monai_jdt.raters.named_regions`.

    Example:
        >>> LabelRegions("brats2023")(torch.tensor([[0, 1, 2, 3]]))  # TC, WT, ET
        metatensor([[0., 1., 0., 1.],
                [0., 1., 1., 1.],
                [0., 0., 0., 1.]])
    """

    def __init__(self, regions: RegionSpec) -> None:
        self.regions = named_regions(regions)

    def __call__(self, label: torch.Tensor) -> MetaTensor:
        """Make the channels.

        Args:
            label: an index map `(1, *S)` of whole numbers of any real dtype.

        Returns:
            `(C, *S)`, float32, 0 or 1, with the affine and meta of the label.

        Raises:
            ValueError: for other than one channel, or values that are not whole numbers within int16.
        """
        if len(label.shape) < 1 or label.shape[0] != 1:
            fix = "FuseRaters for a stack of raters"
            raise ValueError(f"label: expected an index map (1, *S), got shape {tuple(label.shape)}. Fix: {fix}")
        whole = RestoreVotes()(label).as_tensor()
        return with_meta_of(label, fuse_average(whole, tuple(self.regions.values())))


class LabelRegionsd(MapTransform):
    """Dictionary version of :class:`LabelRegions`.

    Args:
        keys: keys of the label maps.
        regions: see :class:`LabelRegions`.
        allow_missing_keys: leave out a key that the item does not have.

    Raises:
        ValueError: as :class:`LabelRegions`.
    """

    def __init__(self, keys: KeysCollection, regions: RegionSpec, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.converter = LabelRegions(regions)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Make the channels of each key's label; the item given is not changed."""
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.converter(d[key])
        return d


def nearest_only(transform: Any, keys: KeysCollection) -> Any:
    """Refuse a spatial transform that would resample votes by anything but nearest neighbour, before the first case is read.

    In a config: `{_target_: monai_jdt.transforms.nearest_only, keys: raters, transform: {_target_: ...Spacingd, ...}}`.
    It reads the `mode` that MONAI's dictionary transforms hold for each of their keys, and looks into `Compose` and its relatives.
    A transform that keeps its mode elsewhere is not seen through; :class:`RestoreVotesd` catches it by the values.

    Args:
        transform: a dictionary transform of MONAI's, or a `Compose` of some.
        keys: keys of the rater stacks.

    Returns:
        The transform itself.

    Raises:
        ValueError: for a mode other than nearest neighbour (`"nearest"`, `"nearest-exact"`, or spline order 0).

    Example:
        >>> from monai.transforms import RandRotate90d, Spacingd
        >>> spacing = nearest_only(Spacingd(["image", "raters"], 2.0, mode=["bilinear", "nearest"]), "raters")
    """
    names = {keys} if isinstance(keys, str) else set(keys)  # type: ignore[arg-type]
    for inner in getattr(transform, "transforms", ()):
        nearest_only(inner, keys)
    own, modes = getattr(transform, "keys", ()), getattr(transform, "mode", None)
    if modes is None or not isinstance(own, tuple):
        return transform
    for key, mode in zip(own, ensure_tuple_rep(modes, len(own)), strict=True):
        name = str(getattr(mode, "value", mode))
        if key in names and name not in ("nearest", "nearest-exact", "0"):
            where = type(transform).__name__
            raise ValueError(
                f"{where}: expected mode 'nearest' for votes under {key!r}, got {name!r}. Fix: mode='nearest' for this key"
            )
    return transform
