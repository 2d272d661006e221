from __future__ import annotations

from itertools import pairwise

import pytest

from monai_jdt.data.lidc import LidcContour, LidcMark, LidcScan, group_marks

SCAN = LidcScan("LIDC-IDRI-0001", "1.2.3", "1.2", 100, 100, (0.5, 0.5), tuple(2.5 * k for k in range(10)))


def box(reader: int | None, name: str, x: tuple[int, int], y: tuple[int, int], slices: tuple[int, ...] = (3, 4)) -> LidcMark:
    corners = ((x[0], y[0]), (x[1], y[0]), (x[1], y[1]), (x[0], y[1]))
    return LidcMark(reader, name, tuple(LidcContour(2.5 * k, corners) for k in slices))


def names(marks: list[LidcMark], tolerance: float | None = None) -> list[str]:
    return ["".join(mark.name for mark in group) for group in group_marks(marks, SCAN, tolerance=tolerance)]


def test_marks_that_overlap_are_one_nodule_and_readers_are_in_order() -> None:
    marks = [
        box(2, "c", (12, 22), (10, 20)),
        box(0, "a", (10, 20), (10, 20)),
        box(3, "d", (60, 70), (10, 20)),
        box(1, "b", (11, 21), (10, 20)),
    ]
    assert names(marks) == ["abc", "d"]
    assert names(marks[::-1]) == ["abc", "d"]


@pytest.mark.parametrize(
    ("gap", "tolerance", "together"),
    [(5, None, True), (6, None, False), (6, 3.0, True), (1, 0.4, False)],  # columns of .5 mm; slices are 2.5 mm apart
)
def test_marks_that_are_near_are_one_nodule(gap: int, tolerance: float | None, together: bool) -> None:
    marks = [box(0, "a", (10, 20), (10, 20)), box(1, "b", (20 + gap, 40), (10, 20))]
    assert names(marks, tolerance) == (["ab"] if together else ["a", "b"])


@pytest.mark.parametrize(("slices", "together"), [((5, 6), True), ((6, 7), False)])
def test_neighbouring_slices_are_near(slices: tuple[int, ...], together: bool) -> None:
    marks = [box(0, "a", (10, 20), (10, 20)), box(1, "b", (10, 20), (10, 20), slices)]
    assert names(marks) == (["ab"] if together else ["a", "b"])


def test_rounded_positions_do_not_decide_what_is_near() -> None:
    """Slices .625 mm apart with the positions rounded to .01 mm: between some neighbours it is .63 mm."""
    scan = LidcScan("LIDC-IDRI-0001", "1.2.3", "1.2", 100, 100, (0.5, 0.5), (0.0, 0.62, 1.25, 1.88, 2.5))
    corners = ((10, 10), (20, 10), (20, 20), (10, 20))
    for z in pairwise(scan.slice_positions):
        assert len(group_marks([LidcMark(k, "a", (LidcContour(z[k], corners),)) for k in (0, 1)], scan)) == 1


def test_two_marks_of_one_reader_stay_apart_and_take_those_that_overlap_them_most() -> None:
    """Reader 2 outlined both as one, and overlaps the right one more: pylidc's rule would join all of them."""
    marks = [
        box(0, "a", (10, 20), (10, 20)),
        box(0, "b", (21, 40), (10, 20)),
        box(1, "c", (10, 20), (10, 20)),
        box(1, "d", (21, 40), (10, 20)),
        box(2, "e", (10, 40), (10, 20)),
    ]
    assert names(marks) == ["ac", "bde"]
    assert names(marks[::-1]) == ["ac", "bde"]


def test_marks_without_readers_are_at_most_four_in_a_nodule() -> None:
    marks = [box(None, name, (10 + i, 20 + i), (10, 20)) for i, name in enumerate("abcde")]
    groups = names(marks)
    assert sorted("".join(groups)) == list("abcde")
    assert max(map(len, groups)) == 4


def test_nodules_are_in_the_order_of_their_places() -> None:
    marks = [
        box(0, "c", (10, 20), (50, 60)),
        box(0, "d", (10, 20), (10, 20), (7,)),
        box(0, "b", (60, 70), (10, 20)),
        box(0, "a", (10, 20), (10, 20)),
    ]
    assert names(marks) == ["a", "b", "c", "d"]


def test_no_marks_are_no_nodules() -> None:
    assert group_marks([], SCAN) == []
