"""Raters whose axes run another way than the others': a flip or a swap of axes that no header shows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations, product

import numpy as np

from monai_jdt.data.problems import DataProblem

#: The number of marked voxels that are kept of one rater. Of more, only those on a lattice through the volume are.
MOST_MARKS = 1 << 16

# The search over all turns looks up 512 to 1023 marks of a rater. The best turn is then measured with all marks.
_SEARCHED = 512
# Fewer marked voxels than these agree with anything by chance.
_LEAST_MARKS = 20
# The conditions for a warning, chosen on 205 nodules of LIDC-IDRI (docs/data.md). The mean Dice with the others grows by this much,
# or by 1.5 / sqrt(marks) if that is more. The second number is for two raters, of whom either may be turned.
_LEAST_GAIN, _LEAST_GAIN_OF_TWO = 0.1, 0.15
# 1 - Dice shrinks to this share of itself, and Dice is then at least this.
_ERROR_LEFT, _LEAST_AGREEMENT = 0.7, 0.5
# Two raters whose Dice grows by this after a turn are in different groups, which are then judged as above.
_GROUP_GAIN = 0.05


class MarkedVoxels:
    """Where a rater marked something, and with which label, in bounded memory.

    Up to :data:`MOST_MARKS` marked voxels are kept. Of more, only those on a lattice are, whose step along each axis is 3, 9, ...
    voxels: an odd step, for which there is a lattice that a flip of the axis maps onto itself. Small drawings stay whole, and of large
    ones the sample is the same for all raters.

    Args:
        shape: voxels along each of two or three axes, the first axis being the fastest in memory.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape
        self.step = 1
        self._at: list[np.ndarray] = []
        self._labels: list[np.ndarray] = []
        self._count = 0

    def add(self, block: np.ndarray, start: int, label: int | None = None) -> None:
        """Add some voxels.

        Args:
            block: flat integers, in Fortran order.
            start: the index of the first one in the flat volume.
            label: the label of every voxel that is not 0 in the block. None: the block's own values.
        """
        if self.step == 1:
            kept = np.flatnonzero(block != 0)  # of bools, which numpy finds several times as fast
            at = kept + start
        else:
            at = self._on_lattice(start, block.size)
            kept = at - start
            marked = block[kept] != 0
            at, kept = at[marked], kept[marked]
        if at.size:
            self._at.append(at)
            self._labels.append(np.full(at.size, label, np.int32) if label is not None else block[kept].astype(np.int32))
            self._count += at.size
        while self._count > MOST_MARKS and self._thin():
            pass

    def _on_lattice(self, start: int, size: int) -> np.ndarray:
        """Return the voxels of the lattice among `size` ones from `start` on, as indices into the flat volume."""
        first, *others = self.shape
        rows = np.arange(start // first, (start + size - 1) // first + 1)
        rows = rows[_on_axes(rows, others, self.step)]
        places = rows[:, None] * first + np.flatnonzero(_on_axes(np.arange(first), [first], self.step))
        flat = places.ravel()
        return flat[(flat >= start) & (flat < start + size)]

    def _thin(self) -> bool:
        """Make the lattice three times as wide, and return whether an axis is long enough for that."""
        if all(_step_along(n, self.step * 3) == _step_along(n, self.step) for n in self.shape):
            return False
        self.step *= 3
        self._restrict(self.step)
        return True

    def _restrict(self, step: int) -> None:
        at, labels = np.concatenate(self._at), np.concatenate(self._labels)
        on = _on_axes(at, self.shape, step)
        self._at, self._labels, self._count = [at[on]], [labels[on]], int(np.count_nonzero(on))

    def at_step(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the voxels `(M, axes)` of the marks on a wider lattice, and their labels `(M,)`.

        Args:
            step: of the lattice, at least `self.step`.
        """
        if not self._count:
            return np.zeros((0, len(self.shape)), np.int64), np.zeros(0, np.int64)
        at, labels = np.concatenate(self._at), np.concatenate(self._labels)
        if step != self.step:
            on = _on_axes(at, self.shape, step)
            at, labels = at[on], labels[on]
        return np.stack(np.unravel_index(at, self.shape, order="F"), axis=1), labels.astype(np.int64)


def _step_along(n: int, step: int) -> int:
    """Return the step of the lattice along an axis of n voxels: a short axis is not thinned further."""
    while step > 1 and n < 4 * step:
        step //= 3
    return step


def _on_axes(flat: np.ndarray, shape: Sequence[int], step: int) -> np.ndarray:
    """Return which voxels lie on the lattice: along each axis at o, o + step, ..., with 2 o = n - 1 modulo the step."""
    on = np.ones(flat.shape, bool)
    for n in shape:
        own = _step_along(n, step)
        if own > 1:
            on &= (flat % n) % own == (n - 1) * (own + 1) // 2 % own
        flat = flat // n
    return on


@dataclass(frozen=True)
class AxisTurn:
    """Voxels in another order: axis i of the result is axis `order[i]` of the original, and runs backwards if `flipped[i]`."""

    order: tuple[int, ...]
    flipped: tuple[bool, ...]

    def moved(self, places: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Return voxels `(M, axes)` after the turn.

        Args:
            places: in the original.
            shape: of the volume, which the turn does not change.
        """
        out = places[:, list(self.order)].copy()
        for axis, flip in enumerate(self.flipped):
            if flip:
                out[:, axis] = shape[axis] - 1 - out[:, axis]
        return out

    def __str__(self) -> str:
        flips = [axis for axis, flip in enumerate(self.flipped) if flip]
        names = ("axis " if len(flips) == 1 else "axes ") + _listed(flips)
        if self.order == tuple(range(len(self.order))):
            return f"flipped along {names}" + (", which is a rotation by 180 degrees" if len(flips) == 2 else "")
        moved = [axis for axis, old in enumerate(self.order) if old != axis]
        text = f"with axes {_listed(moved)} swapped" if len(moved) == 2 else f"with its axes in the order {self.order}"
        return text + (f" and flipped along {names}" if flips else "")

    @property
    def code(self) -> str:
        """Return the turn as numpy code for an array `voxels`."""
        turned = "voxels" if self.order == tuple(range(len(self.order))) else f"numpy.transpose(voxels, {self.order})"
        flips = tuple(axis for axis, flip in enumerate(self.flipped) if flip)
        return f"numpy.flip({turned}, {flips if len(flips) > 1 else flips[0]})" if flips else turned


def _listed(numbers: Sequence[object]) -> str:
    """Return numbers as text: `0`, `0 and 1`, `0, 1 and 2`."""
    names = [str(number) for number in numbers]
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def axis_turns(shape: tuple[int, ...]) -> Iterator[AxisTurn]:
    """Walk through every combination of flips and swaps of axes that keeps the shape, but for the one that changes nothing.

    Args:
        shape: voxels along each axis.

    Example:
        >>> len(list(axis_turns((8, 8, 8)))), len(list(axis_turns((8, 8, 5)))), len(list(axis_turns((8, 7))))
        (47, 15, 3)
    """
    axes = range(len(shape))
    for order in permutations(axes):
        if tuple(shape[axis] for axis in order) != shape:
            continue
        for flipped in product((False, True), repeat=len(shape)):
            # A flip of an axis of one voxel changes nothing.
            if any(flip and shape[axis] == 1 for axis, flip in enumerate(flipped)):
                continue
            if any(flipped) or order != tuple(axes):
                yield AxisTurn(order, flipped)


def turned_raters(raters: Sequence[tuple[str, MarkedVoxels]], case: str) -> Iterator[DataProblem]:
    """Compare the raters of one case, and warn of those who agree with the others only after a flip or a swap of axes.

    The overlap is Dice over the marked voxels, where a voxel counts if both raters gave it the same label. Raters who agree best as
    they are stored form a group. If one group is the largest, a warning names each rater outside of it. With two raters, or two
    largest groups of one size, it cannot be known which is turned, and one warning names both. A turn must improve the agreement with
    every rater of the group, by 0.1 in the mean (0.15 with two raters). There is no warning of drawings that are symmetric, or that
    nobody agrees with.

    Args:
        raters: each rater's file and marks, all of one shape.
        case: its name.

    Yields:
        Warnings.
    """
    marked = [(path, marks) for path, marks in raters if len(marks.shape) in (2, 3)]
    if len(marked) < 2:
        return
    overlaps = _Overlaps([marks for _, marks in marked])
    names = {index: marked[index][0] for index in overlaps.usable}
    if len(names) < 2:
        return
    groups = sorted(overlaps.groups(), key=len, reverse=True)
    if len(groups) < 2:
        return
    if len(groups[0]) > len(groups[1]):
        for rater in sorted(rater for group in groups[1:] for rater in group):
            if (found := overlaps.turn_onto([rater], groups[0], _LEAST_GAIN)) is not None:
                turn, stored, turned = found
                expected = "voxels whose axes run as the other raters' do"
                got = f"a Dice of {stored:.2f} with them as stored, and of {turned:.2f} {turn}"
                fix = f"look at it on the image; if it is turned, save {turn.code} with the same header"
                if overlaps.marked([rater], groups[0]) >= turned:
                    got += ", or with its label values exchanged"
                    fix += "; if its values are numbered another way, give it the others' numbers"
                yield DataProblem(names[rater], expected, got, fix, fatal=False)
        return
    if len(groups) > 2 and len(groups[0]) == 1:
        return  # nobody agrees with anybody
    if (found := overlaps.turn_onto(groups[1], groups[0], _LEAST_GAIN_OF_TWO)) is not None:
        turn, stored, turned = found
        own, other = (_listed([names[rater] for rater in group]) for group in (groups[1], groups[0]))
        got = f"a Dice of {stored:.2f} between {other} and {own} as stored, and of {turned:.2f} with the latter {turn}"
        fix = "look at both on the image: which of them is turned cannot be told from the two"
        if overlaps.marked(groups[1], groups[0]) >= turned:
            got += ", or with its label values exchanged"
            fix = "look at both on the image: one of them is turned, or its label values are numbered another way"
        yield DataProblem(case, "raters whose axes run alike", got, fix, fatal=False)


class _Overlaps:
    """The Dice of every pair of raters, as stored and after every turn."""

    def __init__(self, marks: Sequence[MarkedVoxels]) -> None:
        self.shape = marks[0].shape
        step = max(one.step for one in marks)
        kept = [one.at_step(step) for one in marks]
        kept = _without_background(kept, self.shape, step)
        self._marks = kept
        self.usable = [index for index, (places, _) in enumerate(kept) if len(places) >= _LEAST_MARKS]
        self._turns = list(axis_turns(self.shape))
        self._keys = {index: np.sort(self._keyed(*kept[index])) for index in self.usable}
        self._estimates: dict[tuple[int, int], np.ndarray] = {}
        self._samples: dict[int, np.ndarray] = {}

    def _keyed(self, places: np.ndarray, labels: np.ndarray) -> np.ndarray:
        # Voxel and label in one number, so that a voxel counts only if both raters gave it the same label. Labels are int16.
        return np.ravel_multi_index(tuple(places.T), self.shape).astype(np.int64) << 16 | labels & 0xFFFF

    def stored(self, one: int, other: int) -> float:
        """Return the Dice of two raters as they are."""
        return _dice_of_sets(self._keys[one], self._keys[other])

    def marked(self, raters: Sequence[int], group: Sequence[int]) -> float:
        """Return the mean Dice of what some raters and the others marked, as they are, whatever the label values."""
        pairs = [(self._keys[one] >> 16, self._keys[other] >> 16) for one in raters for other in group]
        return float(np.mean([_dice_of_sets(*pair) for pair in pairs]))

    def after(self, turn: AxisTurn, one: int, other: int) -> float:
        """Return the Dice of two raters once the first one is turned."""
        places, labels = self._marks[one]
        return _dice_of_sets(self._keyed(turn.moved(places, self.shape), labels), self._keys[other])

    def estimates(self, one: int, other: int) -> np.ndarray:
        """Return the Dice of two raters for every turn of the first one, estimated from a sample of its marks."""
        if (one, other) not in self._estimates:
            places, keys = self._marks[one][0], self._keys[other]
            wanted = self._turned_samples(one)
            # The index of a number above all keys is len(keys): the last key stands in, which differs from it.
            there = keys[np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)] == wanted
            self._estimates[one, other] = 2 * len(places) * there.mean(axis=1) / (len(places) + len(keys))
        return self._estimates[one, other]

    def _turned_samples(self, rater: int) -> np.ndarray:
        """Return the keys of a sample of a rater's marks after every turn, `(turns, M)`: what `_keyed(turn.moved(...))` gives.

        All turns at once, since a turn moves an index along an axis to its own or the flipped index along another one.
        """
        if rater not in self._samples:
            places, labels = self._marks[rater]
            every = max(1, len(places) // _SEARCHED)
            sample, names = places[::every].T, labels[::every] & 0xFFFF
            indices = np.stack([sample, np.array(self.shape)[:, None] - 1 - sample])  # (2, axes, M): as they are, flipped
            flips = np.array([turn.flipped for turn in self._turns], np.intp)
            orders = np.array([turn.order for turn in self._turns])
            flat = np.zeros((len(self._turns), sample.shape[1]), np.int64)
            for axis, size in enumerate(self.shape):
                flat = flat * size + indices[flips[:, axis], orders[:, axis]]
            self._samples[rater] = flat << 16 | names
        return self._samples[rater]

    def groups(self) -> list[list[int]]:
        """Return groups of raters who agree as they are stored: no rater agrees better with most of the group after a turn."""
        groups: list[list[int]] = []
        for rater in self.usable:
            # A majority of the group decides, so that one rater with a drawing of its own does not split it.
            home = next((group for group in groups if 2 * sum(self._apart(rater, one) for one in group) < len(group)), None)
            if home is None:
                groups.append([rater])
            else:
                home.append(rater)
        return groups

    def _apart(self, one: int, other: int) -> bool:
        stored = self.stored(one, other)
        return stored < 1 - _LEAST_GAIN and bool(self._turns) and float(self.estimates(one, other).max()) > stored + _GROUP_GAIN

    def turn_onto(self, raters: Sequence[int], group: Sequence[int], least_gain: float) -> tuple[AxisTurn, float, float] | None:
        """Return the turn that brings some raters onto the others, and the mean Dice before and after, or None if no turn does."""
        pairs = [(one, other) for one in raters for other in group]
        best = self._turns[int(np.mean([self.estimates(*pair) for pair in pairs], axis=0).argmax())]
        stored = np.array([self.stored(*pair) for pair in pairs])
        after = np.array([self.after(best, *pair) for pair in pairs])
        before, turned = float(stored.mean()), float(after.mean())
        fewest = min(len(self._keys[rater]) for rater in (*raters, *group))
        gain = max(least_gain, 1.5 / np.sqrt(fewest))
        if turned - before < gain or 1 - turned > _ERROR_LEFT * (1 - before) or turned < _LEAST_AGREEMENT:
            return None
        return (best, before, turned) if bool((after > stored).all()) else None


def _without_background(
    marks: list[tuple[np.ndarray, np.ndarray]], shape: tuple[int, ...], step: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the marks, or if the most frequent label is not 0 (black on white), every voxel of the lattice with another label."""
    axes = [np.flatnonzero(_on_axes(np.arange(n), [n], step)) for n in shape]
    voxels = int(np.prod([len(axis) for axis in axes]))
    values, counts = np.unique(np.concatenate([labels for _, labels in marks]), return_counts=True)
    if not values.size or counts.max() <= len(marks) * voxels - counts.sum():
        return marks
    background = values[counts.argmax()]
    lattice = np.stack([axis.ravel(order="F") for axis in np.meshgrid(*axes, indexing="ij")], axis=1)
    flat = np.ravel_multi_index(tuple(lattice.T), shape, order="F")
    turned = []
    for places, labels in marks:
        full = np.zeros(voxels, np.int64)
        full[np.searchsorted(flat, np.ravel_multi_index(tuple(places.T), shape, order="F"))] = labels
        other = full != background
        turned.append((lattice[other], full[other]))
    return turned


def _dice_of_sets(one: np.ndarray, other: np.ndarray) -> float:
    """Return the Dice of two sets of numbers, in which no number occurs twice."""
    both = np.concatenate((one, other))
    both.sort()
    return 2 * float(np.count_nonzero(both[1:] == both[:-1])) / both.size
