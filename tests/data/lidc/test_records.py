from __future__ import annotations

import pytest

from monai_jdt.data.lidc import LidcScan


def scan(*positions: float) -> LidcScan:
    return LidcScan("LIDC-IDRI-0001", "1.2.3", "1.2", 512, 500, (0.7, 0.8), positions)


def test_shape_is_in_the_order_of_nifti() -> None:
    assert scan(-5.0, -2.5, 1.0).shape == (500, 512, 3)


@pytest.mark.parametrize(("positions", "spacing"), [((-5.0, -2.5, 0.0, 3.0), 2.5), ((7.0,), 1.0)])
def test_slice_spacing_is_the_median(positions: tuple[float, ...], spacing: float) -> None:
    assert scan(*positions).slice_spacing == spacing


@pytest.mark.parametrize(("z", "index"), [(-2.5, 1), (-2.4, 1), (-5.2, 0), (0.24, 2)])
def test_a_slice_is_found_by_a_rounded_position(z: float, index: int) -> None:
    assert scan(-5.0, -2.5, -0.001).slice_index(z) == index


@pytest.mark.parametrize("z", [-3.75, -7.5, 0.7, float("nan")])
def test_a_position_between_slices_is_refused(z: float) -> None:
    with pytest.raises(
        ValueError, match=r"series 1\.2\.3: expected a slice at each contour, got a contour at .+ Fix: download the series again"
    ):
        scan(-5.0, -2.5, 0.0).slice_index(z)


@pytest.mark.parametrize("positions", [(), (0.0, 0.0), (2.0, 1.0), (0.0, float("nan"))])
def test_positions_that_do_not_increase_are_refused(positions: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="slice_positions: expected z of at least one slice in mm, in increasing order"):
        scan(*positions)
