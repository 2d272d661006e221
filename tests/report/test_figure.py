import os
import re

import nibabel
import numpy as np
import pytest

from monai_jdt.cli import main
from monai_jdt.report import draw_case


@pytest.fixture
def case():
    rng = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in (20, 24, 10)], indexing="ij"))
    distance = np.sqrt(((grid - np.array([9, 11, 5]).reshape(3, 1, 1, 1)) ** 2).sum(0))
    votes = np.stack([np.where(distance < r, 1, 0) + np.where(distance < r / 2, 3, 0) for r in (4, 5, 6)]).astype(np.uint8)
    prediction = np.stack([1 / (1 + np.exp(distance - 5)), 1 / (1 + np.exp(distance - 2.5))]).astype(np.float32)
    return {"image": rng.normal(size=(2, 20, 24, 10)), "prediction": prediction, "votes": votes}


def picture(path):
    from matplotlib.image import imread

    return imread(path)


@pytest.mark.parametrize("truth", [False, True])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_picture_is_written_whole(tmp_path, case, truth, axis):
    path = tmp_path / "new" / "case.png"
    extra = {"truth": case["prediction"]} if truth else {}
    regions = {"all": [1, 4], "core": [4]}
    assert draw_case(path, **case, **extra, regions=regions, spacing=(1, 1, 3), axis=axis, dpi=40) == str(path)
    assert os.listdir(path.parent) == ["case.png"]
    pixels = picture(path)
    # a panel is 2.6 inches wide; one column more with the truth
    assert pixels.shape[1] == pytest.approx((2.6 * (5 if truth else 4) + 1.3) * 40, abs=2)
    assert pixels[..., :3].std() > 0.1


def test_without_votes_and_with_a_missing_region(tmp_path, case):
    average = np.zeros_like(case["prediction"])
    average[0] = case["prediction"][0]
    path = draw_case(tmp_path / "a.png", case["image"], case["prediction"] * 0, average=average, dpi=30, zoom=False)
    assert picture(path).size
    flat = draw_case(tmp_path / "b.png", case["image"][..., 5], case["prediction"][..., 5], average=average[..., 5], dpi=30)
    assert picture(flat).size


@pytest.mark.parametrize(("volume", "label"), [(False, "all$"), (True, r"all\nslice \d of 10$")])
def test_a_slice_is_told_of_volumes_only(case, monkeypatch, volume, label):
    drawn = []
    monkeypatch.setattr("monai_jdt.report.figure._save_png", lambda figure, path: drawn.append(figure))
    arrays = {name: values if volume else values[..., 5] for name, values in case.items()}
    draw_case("unused.png", arrays["image"], arrays["prediction"][:1], arrays["votes"], regions={"all": [1, 4]}, dpi=30)
    assert re.match(label, drawn[0].axes[0].get_ylabel())


def test_refusals_leave_no_file(tmp_path, case):
    path = tmp_path / "case.png"
    with pytest.raises(ValueError, match="average"):
        draw_case(path, case["image"], case["prediction"])
    with pytest.raises(ValueError, match="a prediction"):
        draw_case(path, **case, regions=[1, 2, 3], average=case["prediction"])
    with pytest.raises(ValueError, match="truth"):
        draw_case(path, **case, regions=[1, 4], truth=case["prediction"][:1])
    with pytest.raises(ValueError, match="channel"):
        draw_case(path, **case, regions=[1, 4], channel=2)
    assert os.listdir(tmp_path) == []


def test_the_verb_draws_from_files(tmp_path, case, capsys):
    def write(name, values):
        nibabel.save(nibabel.Nifti1Image(values, np.diag([1.0, 1, 3, 1])), tmp_path / name)
        return str(tmp_path / name)

    raters = [write(f"r{i}.nii.gz", vote) for i, vote in enumerate(case["votes"])]
    images = [write(f"i{i}.nii.gz", channel.astype(np.float32)) for i, channel in enumerate(case["image"])]
    prediction = write("p.nii.gz", np.moveaxis(case["prediction"], 0, -1))
    arguments = ["figure", str(tmp_path / "case.png"), "--prediction", prediction, "--regions", '{"all": [1, 4], "core": 4}']
    arguments += [a for path in images for a in ("--image", path)] + [a for path in raters for a in ("--rater", path)]
    with pytest.raises(SystemExit) as done:
        main(arguments)
    assert done.value.code in (0, None)
    assert picture(tmp_path / "case.png").size
    with pytest.raises(SystemExit) as done:
        main([*arguments, "--truth", "absent.nii.gz"])
    assert done.value.code == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith("monai_jdt: error: absent.nii.gz")
