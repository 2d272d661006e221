"""What is in a picture of a case, and that nothing in it lies on anything else."""

import itertools
import os
import tracemalloc
from _io import BufferedWriter
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.legend import Legend

from monai_jdt.report import case_picture, draw_case
from monai_jdt.report.colours import MAJORITY_STYLE, PREDICTION_STYLE, STYLED_RATERS, rater_style
from tests.present import present

LPS = np.diag([-1.0, -1.0, 3.0, 1.0])


def ball_case(
    shape: tuple[int, ...] = (20, 24, 10), radii: list[float] | tuple[int, ...] = (4, 5, 6), channels: int = 2
) -> dict[str, Any]:
    """Balls of several radii with a core of half the radius, as label values 1 and 4."""
    rng = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"))
    middle = np.array([n // 2 for n in shape]).reshape(-1, *[1] * len(shape))
    distance = np.sqrt(((grid - middle) ** 2).sum(0))
    votes = np.stack([np.where(distance < r, 1, 0) + np.where(distance < r / 2, 3, 0) for r in radii]).astype(np.uint8)
    prediction = np.stack([1 / (1 + np.exp(distance - 5)), 1 / (1 + np.exp(distance - 2.5))]).astype(np.float32)
    return {"image": rng.normal(size=(channels, *shape)), "prediction": prediction, "votes": votes}


@pytest.fixture
def case() -> dict[str, Any]:
    return ball_case()


def panels(figure: Figure) -> dict[str, Any]:
    """Axes by their label, without colour bars."""
    return {str(axes.get_label()): axes for axes in figure.axes if ": " in str(axes.get_label())}


def legend_of(figure: Figure) -> Legend:
    return figure.legends[0]


def words_of(figure: Figure) -> list[str]:
    texts = [text.get_text() for text in figure.texts]
    for axes in figure.axes:
        texts += [axes.get_title(), *axes.get_xlabel().split("\n"), *(text.get_text() for text in axes.texts)]
    return texts + [text.get_text() for text in (legend_of(figure).get_texts() if figure.legends else [])]


def assert_nothing_overlaps(figure: Figure) -> None:
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    boxes = {f"axes {i} {axes.get_label()}": present(axes.get_tightbbox(renderer)) for i, axes in enumerate(figure.axes)}
    boxes |= {text.get_text(): text.get_window_extent(renderer) for text in figure.texts}
    if figure.legends:
        boxes["legend"] = legend_of(figure).get_window_extent(renderer)
    for (one, first), (other, second) in itertools.combinations(boxes.items(), 2):
        x = min(first.x1, second.x1) - max(first.x0, second.x0)
        y = min(first.y1, second.y1) - max(first.y0, second.y0)
        assert min(x, y) <= 1, f"{one!r} and {other!r} overlap by {x:.0f} x {y:.0f} dots"
    across, up = figure.get_size_inches() * figure.dpi
    for name, box in boxes.items():
        assert box.x0 >= 0, name
        assert box.y0 >= 0, name
        assert box.x1 <= across, name
        assert box.y1 <= up, name


LONG = "a case with a name that is longer than any picture of it will ever be wide, as names from hospitals may be" * 2


@pytest.mark.parametrize(
    ("shape", "raters", "predicted", "zoom"),
    [
        ((20, 24, 10), 3, True, True),
        ((20, 24, 10), 3, False, True),
        ((400, 24, 1), 5, True, False),  # wide and low
        ((400, 24, 1), 17, False, False),
        ((60, 24, 1), 4, True, False),  # two panels in a line
        ((24, 400, 1), 2, True, False),  # tall
        ((24, 24, 1), 1, True, True),
        ((24, 24, 1), 1, False, True),
        ((24, 24, 1), 30, True, True),
    ],
)
def test_nothing_overlaps_and_nothing_is_cut(shape: tuple[int, ...], raters: int, predicted: bool, zoom: bool) -> None:
    case = ball_case(shape, radii=[4 + r / 10 for r in range(raters)])
    if not predicted:
        case.pop("prediction")
    names = [f"Dr. Long-Name of a hospital far away, number {r}" for r in range(raters)]
    figure = case_picture(**case, regions={"all of it": [1, 4], "core": [4]}, case=LONG, affine=LPS, rater_names=names, zoom=zoom)
    assert_nothing_overlaps(figure)


@pytest.mark.parametrize("truth", [False, True])
def test_every_panel_has_a_title_and_the_truth_one_of_its_own(case: dict[str, Any], truth: bool) -> None:
    extra: dict[str, Any] = {"truth": case["prediction"]} if truth else {}
    figure = case_picture(**case, **extra, regions={"all": [1, 4], "core": [4]})
    titles = [axes.get_title() for axes in panels(figure).values()]
    expected = ["image and raters", "average of 3 raters", "predicted probability", "prediction − average"]
    assert titles[: 5 if truth else 4] == expected[:2] + ["true probability"] * truth + expected[2:]
    assert_nothing_overlaps(figure)
    assert not any("error" in word for word in words_of(figure))


def test_raters_are_drawn_before_there_is_a_model(case: dict[str, Any]) -> None:
    figure = case_picture(case["image"], votes=case["votes"], regions={"all": [1, 4]}, case="case01")
    assert list(panels(figure)) == ["all: image", "all: raters", "all: share"]
    assert [text.get_text() for text in legend_of(figure).get_texts()] == ["rater 1", "rater 2", "rater 3"]
    assert "case01" in words_of(figure)
    # one contour for each rater
    assert len(panels(figure)["all: raters"].collections) == 3


def test_regions_are_the_label_values_where_nobody_names_them(case: dict[str, Any]) -> None:
    figure = case_picture(case["image"], votes=case["votes"])
    assert {label.split(":")[0] for label in panels(figure)} == {"label 1", "label 4"}


def test_one_rater_has_no_average_and_no_majority(case: dict[str, Any]) -> None:
    figure = case_picture(case["image"], case["prediction"][:1], case["votes"][:1], regions={"all": [1, 4]})
    titles = [axes.get_title() for axes in panels(figure).values()]
    assert titles == ["image and rater", "predicted probability", "prediction − rater"]
    assert not any("majority" in word or "average" in word for word in words_of(figure))


def test_what_nobody_marked_has_no_empty_panels(case: dict[str, Any]) -> None:
    votes = np.where(case["votes"] == 4, 1, case["votes"])
    figure = case_picture(case["image"], case["prediction"] * [[[[1]]], [[[0]]]], votes, regions={"all": [1, 4], "core": [4]})
    assert [label for label in panels(figure) if label.startswith("core")] == ["core: raters", "core: prediction"]
    words = words_of(figure)
    assert "no rater marked it" in words
    assert "nothing above 0.5" in words
    assert not any("nan" in word or "undefined" in word for word in words)


def test_raters_who_are_all_empty_leave_the_image_alone_on_its_middle_slice(case: dict[str, Any]) -> None:
    figure = case_picture(case["image"], votes=case["votes"] * 0, regions={"all": [1, 4], "core": [4]}, affine=LPS)
    assert list(panels(figure)) == ["all, core: image"]
    assert "all, core   axial slice 6 of 10" in words_of(figure)
    assert figure.legends == []


def test_an_empty_rater_is_called_so_and_a_missing_one_left_out(case: dict[str, Any]) -> None:
    votes = case["votes"].copy()
    votes[1] = 0
    named: dict[str, Any] = {"regions": {"all": [1, 4]}, "rater_names": ["Anna", "Ben", "Cem"]}
    figure = case_picture(case["image"], votes=votes, **named)
    assert [text.get_text() for text in legend_of(figure).get_texts()] == ["Anna", "Ben (marked nothing)", "Cem"]
    figure = case_picture(case["image"], votes=votes, rater_weights=[1, 0, 2], **named)
    assert [text.get_text() for text in legend_of(figure).get_texts()] == ["Anna", "Cem"]
    assert "average of 2 raters" in words_of(figure)


def distance(one: str, other: str) -> np.float64:
    return np.abs(np.subtract(to_rgb(one), to_rgb(other))).max()


def test_no_two_raters_have_one_colour_and_nobody_has_the_majoritys() -> None:
    colours = [rater_style(r, STYLED_RATERS)["color"] for r in range(STYLED_RATERS)]
    assert STYLED_RATERS >= 17
    every = [*colours, MAJORITY_STYLE["color"], PREDICTION_STYLE["color"]]
    assert min(distance(a, b) for a, b in itertools.combinations(every, 2)) > 0.1
    # raters of one hue have other dashes
    assert len({str(rater_style(r, 21)["linestyle"]) for r in (0, 7, 14)}) == 3


@pytest.mark.parametrize("raters", [8, 17])
def test_the_key_is_what_is_drawn(raters: int) -> None:
    case = ball_case((24, 24, 1), radii=[3 + r / 3 for r in range(raters)])
    figure = case_picture(**case, regions=[[1, 4], 4])
    keys = dict(zip([text.get_text() for text in legend_of(figure).get_texts()], legend_of(figure).get_lines(), strict=True))
    drawn = panels(figure)["label_1_4: raters"].collections
    assert len({to_rgb(key.get_color()) for name, key in keys.items() if name.startswith("rater")}) == raters
    for r, contour in enumerate(drawn):
        assert tuple(contour.get_edgecolor()[0][:3]) == to_rgb(keys[f"rater {r + 1}"].get_color())
    probability, majority = panels(figure)["label_1_4: prediction"].collections
    for contour, name in ((probability, "predicted probability 0.5"), (majority, "majority of the raters")):
        assert tuple(contour.get_edgecolor()[0][:3]) == to_rgb(keys[name].get_color())
        # white is seen on white paper by its rim
        assert keys[name].get_path_effects()
        assert contour.get_path_effects()


def test_more_raters_than_styles_have_one_and_the_key_says_so() -> None:
    case = ball_case((24, 24, 1), radii=[3 + r / 10 for r in range(30)])
    figure = case_picture(case["image"], votes=case["votes"])
    assert [text.get_text() for text in legend_of(figure).get_texts()] == ["each of 30 raters"]


def test_numbers_are_those_of_the_whole_case_and_say_over_what() -> None:
    # 4 x 4 x 2: raters mark 4 and 2 voxels of slice 0, and nothing elsewhere; the prediction is .9 on two voxels, .1 elsewhere
    votes = np.zeros((2, 4, 4, 2), np.uint8)
    votes[0, 0, :, 0] = 1
    votes[1, 0, :2, 0] = 1
    prediction = np.full((1, 4, 4, 2), 0.1, np.float32)
    prediction[0, 0, :2, 0] = 0.9
    figure = case_picture(np.zeros((1, 4, 4, 2)), prediction, votes, regions={"r": [1]}, affine=LPS)
    words = words_of(figure)
    assert "Dice with the majority 1.00" in words  # more than half of two: both
    assert "mean Dice of two raters 0.67" in words  # 2 * 2 / (4 + 2)
    # |.9 - 1| on two voxels, |.1 - .5| on two: the haze of .1 elsewhere does not count
    assert "mean |difference| 0.25*" in words
    assert "* over the voxels that a rater marks or the prediction puts above 0.5" in words
    assert any("numbers: the whole case" in word for word in words)


def test_a_photograph_is_shown_in_its_colours_and_upright() -> None:
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, (3, 30, 20)).astype(np.uint8)
    votes = np.zeros((1, 30, 20), np.uint8)
    votes[0, 3:20, 2:9] = 1
    for given in (image, image.astype(np.float32)):
        figure = case_picture(given, votes=votes, zoom=False)
        shown = np.asarray(panels(figure)["label 1: image"].images[0].get_array())
        assert shown.shape == (20, 30, 3)
        assert np.allclose(shown, image.transpose(2, 1, 0) / 255, atol=1e-6)
    grey = case_picture(image, votes=votes, zoom=False, channel=1)
    assert np.asarray(panels(grey)["label 1: image"].images[0].get_array()).shape == (20, 30)


def test_the_grey_channel_is_for_images_without_colours() -> None:
    image = np.random.default_rng(1).normal(size=(3, 30, 20))
    votes = np.ones((1, 30, 20), np.uint8)
    for number, expected in ((0, 0), (-1, 2), (1, 1)):
        figure = case_picture(image, votes=votes, zoom=False, grey_channel=number)
        assert np.array_equal(panels(figure)["label 1: image"].images[0].get_array(), image[expected].T)
    colours = case_picture(np.abs(image * 50).round().clip(0, 255), votes=votes, zoom=False, grey_channel=-1)
    assert panels(colours)["label 1: image"].images[0].get_array().shape == (20, 30, 3)
    with pytest.raises(ValueError, match="grey_channel: expected a number from -3 to 2, got 3"):
        case_picture(image, votes=votes, grey_channel=3)


def test_ct_has_a_window_and_says_which(case: dict[str, Any]) -> None:
    image = np.full((1, 20, 24, 10), -1000, np.int16)
    image[0, 8:12, 8:12] = 60
    regions: dict[str, Any] = {"regions": {"all": [1, 4]}}
    figure = case_picture(image, votes=case["votes"], **regions)
    assert "CT, lung window: −1350 to 150 HU" in words_of(figure)
    assert panels(figure)["all: image"].images[0].get_clim() == (-1350, 150)
    image[:, 1:-1, 1:-1] = 60  # tissue around the object, air only at the edge
    figure = case_picture(image, votes=case["votes"][:1], **regions)
    assert "CT, soft tissue window: −160 to 240 HU" in words_of(figure)
    figure = case_picture(image, votes=case["votes"], window=(0, 80), **regions)
    assert panels(figure)["all: image"].images[0].get_clim() == (0, 80)
    # MR has negative values too, after resampling
    figure = case_picture(image.astype(np.float32) * 0.37, votes=case["votes"], **regions)
    assert not any("CT" in word for word in words_of(figure))


@pytest.mark.parametrize("value", [7.0, np.nan, -1e30])
def test_an_image_of_one_value_is_grey_and_says_so(value: float) -> None:
    votes = ball_case((24, 24, 1))["votes"]
    figure = case_picture(np.full((1, 24, 24), value), votes=votes[..., 0], regions=[1])
    low, high = panels(figure)["label_1: image"].images[0].get_clim()
    assert low < high
    assert ("no finite value" if np.isnan(value) else f"every value is {value:g}") in words_of(figure)


def test_a_scan_is_shown_by_radiological_convention() -> None:
    image = np.zeros((1, 10, 12, 6))
    image[0, 1, 2, 3] = 1  # RAS: low x is left, low y is posterior
    votes = (image > 0).astype(np.uint8)
    figure = case_picture(image, votes=votes, affine=np.eye(4), zoom=False)
    axes = panels(figure)["label 1: image"]
    assert [text.get_text() for text in axes.texts] == ["R", "L", "A", "P"]
    row, column = np.argwhere(np.asarray(axes.images[0].get_array()))[0]
    # the patient's left is on the right: column 8 of 10; posterior is below: row 9 of 12
    assert (row, column) == (9, 8)
    plain = panels(case_picture(image, votes=votes, zoom=False))["label 1: image"]
    assert list(plain.texts) == []
    assert np.argwhere(np.asarray(plain.images[0].get_array())).tolist() == [[2, 1]]


def test_long_voxels_are_drawn_long(case: dict[str, Any]) -> None:
    figure = case_picture(case["image"], votes=case["votes"], regions=[[1, 4]], spacing=(1, 1, 3), axis=0)
    # z runs down and is 3 mm
    assert panels(figure)["label_1_4: image"].get_aspect() == 3


def test_a_large_image_is_shrunk_before_it_is_drawn() -> None:
    image = np.zeros((1, 3000, 2000), np.uint8)
    votes = np.zeros((2, 3000, 2000), np.uint8)
    votes[:, 500:2500, 300:1700] = 1
    figure = case_picture(image, votes=votes)
    for axes in panels(figure).values():
        assert max(np.asarray(axes.images[0].get_array()).shape) <= 1000
    assert_nothing_overlaps(figure)


def test_a_large_image_costs_few_bytes_a_pixel() -> None:
    side = 3000
    image, votes = np.zeros((1, side, side), np.uint8), np.zeros((6, side, side), np.uint8)
    votes[:, 200:-200, 200:-200] = 1
    tracemalloc.start()
    try:
        case_picture(image, votes=votes)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # about 150 MB are what matplotlib makes of a million pixels; six raters as floats would add 24 bytes per pixel
    assert peak < 25 * side * side


def test_names_are_no_mathematics_and_need_no_font(tmp_path: Path, case: dict[str, Any], recwarn: pytest.WarningsRecorder) -> None:
    names = ["$x$", "_hidden", "名前"]
    path = draw_case(
        tmp_path / "a.png", case["image"], votes=case["votes"], rater_names=names, case="two\nlines $\\frac{$ 患者", dpi=40
    )
    assert os.path.getsize(path)
    assert not [warning for warning in recwarn if "Glyph" in str(warning.message)]


def test_a_picture_is_written_whole_or_not_at_all(tmp_path: Path, case: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "new" / "case.png"
    assert draw_case(path, **case, regions={"all": [1, 4], "core": [4]}, dpi=40) == str(path)
    assert os.listdir(path.parent) == ["case.png"]
    before = path.read_bytes()
    assert matplotlib.image.imread(path)[..., :3].std() > 0.1

    def fail(self: FigureCanvasAgg, file: BufferedWriter) -> None:
        file.write(b"half")
        raise OSError("the disk is full")

    monkeypatch.setattr(FigureCanvasAgg, "print_png", fail)
    with pytest.raises(OSError, match="full"):
        draw_case(path, **case, regions={"all": [1, 4], "core": [4]}, dpi=40)
    assert os.listdir(path.parent) == ["case.png"]
    assert path.read_bytes() == before


def test_an_average_without_votes_is_drawn(case: dict[str, Any]) -> None:
    average = np.zeros_like(case["prediction"])
    average[0] = case["prediction"][0]
    figure = case_picture(case["image"][..., 5], case["prediction"][..., 5] * 0, average=average[..., 5])
    assert "channel 0: share" in panels(figure)
    assert "average of the raters" in words_of(figure)


@pytest.mark.parametrize(("volume", "header"), [(False, "all"), (True, "all   slice 5 of 10")])
def test_a_slice_is_named_of_volumes_only(case: dict[str, Any], volume: bool, header: str) -> None:
    arrays = {name: values if volume else values[..., 5] for name, values in case.items()}
    figure = case_picture(arrays["image"], arrays["prediction"][:1], arrays["votes"], regions={"all": [1, 4]})
    assert header in words_of(figure)


def test_refusals_leave_no_file(tmp_path: Path, case: dict[str, Any]) -> None:
    path = tmp_path / "case.png"
    with pytest.raises(ValueError, match="average"):
        draw_case(path, case["image"], case["prediction"])
    with pytest.raises(ValueError, match="a prediction"):
        draw_case(path, **case, regions=[1, 2, 3], average=case["prediction"])
    with pytest.raises(ValueError, match="truth"):
        draw_case(path, **case, regions=[1, 4], truth=case["prediction"][:1])
    with pytest.raises(ValueError, match="channel"):
        draw_case(path, **case, regions=[1, 4], channel=2)
    with pytest.raises(ValueError, match="window"):
        draw_case(path, **case, regions=[1, 4], window="kidney")
    with pytest.raises(ValueError, match="rater_names"):
        draw_case(path, **case, regions=[1, 4], rater_names=["one"])
    with pytest.raises(ValueError, match="votes on the image's"):
        draw_case(path, case["image"][:, 1:], votes=case["votes"])
    assert os.listdir(tmp_path) == []
