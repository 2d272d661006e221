"""LIDC phantoms: files of TCIA's layout, seeded, which give back the case that was written."""

from __future__ import annotations

import hashlib
import locale
import os
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import SimpleITK

from monai_jdt.data import LIDC_STYLES, LidcPhantom, ensure_lidc_phantoms, lidc_phantom, rater_probability, write_lidc_phantoms
from monai_jdt.data.phantoms.raters import draw_rater
from tests.data.phantoms.test_outlines import turns_around
from tests.nifti_files import load_nifti

SMALL: dict[str, Any] = {"cases": 2, "shape": (48, 44, 16), "seed": 2, "progress": False}
NAME = "{http://www.nih.gov}"


def digest(root: Path) -> dict[str, str]:
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in root.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(write_lidc_phantoms(tmp_path_factory.mktemp("lidc") / "set", **SMALL))


def the_series(root: Path, patient: str) -> Path:
    (folder,) = [path for path in (root / patient).glob("*/*") if path.is_dir()]
    return folder


def read_xml(path: Path, image: SimpleITK.Image) -> list[np.ndarray]:
    """The mask of each session, by a reader that knows nothing of the writer."""
    masks = []
    height = {round(image.TransformIndexToPhysicalPoint((0, 0, k))[2], 3): k for k in range(image.GetSize()[2])}
    for session in ElementTree.parse(path).getroot().iter(f"{NAME}readingSession"):
        mask = np.zeros(image.GetSize()[::-1], bool)
        for nodule in session.iter(f"{NAME}unblindedReadNodule"):
            if nodule.find(f"{NAME}characteristics") is None:
                assert len(list(nodule.iter(f"{NAME}edgeMap"))) == 1
                continue
            kept, cut = np.zeros_like(mask), np.zeros_like(mask)
            for roi in nodule.iter(f"{NAME}roi"):
                points = [(int(e[0].text or ""), int(e[1].text or "")) for e in roi.iter(f"{NAME}edgeMap")]
                k = height[round(float(roi.findtext(f"{NAME}imageZposition", "")), 3)]
                outline = np.zeros(mask.shape[1:], bool)
                outline[[y for _, y in points], [x for x, _ in points]] = True
                inside = turns_around(points, (mask.shape[1], mask.shape[2]))
                if roi.findtext(f"{NAME}inclusion") == "TRUE":
                    kept[k] |= inside & ~outline
                else:
                    cut[k] |= inside | outline
            mask |= kept & ~cut
        masks.append(mask)
    return masks


def test_files_give_the_case_back(written: Path) -> None:
    assert sorted(p.name for p in written.iterdir() if p.is_dir()) == ["LIDC-IDRI-9001", "LIDC-IDRI-9002"]
    case = lidc_phantom(1, shape=SMALL["shape"], seed=2)
    folder = the_series(written, "LIDC-IDRI-9002")
    names = SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder))
    assert sorted(os.path.basename(name) for name in names) == [f"1-{n:03d}.dcm" for n in range(1, 17)]
    image = SimpleITK.ReadImage(names)
    assert (SimpleITK.GetArrayFromImage(image) == case.image).all()
    np.testing.assert_allclose(image.GetSpacing(), case.grid.spacing[::-1], atol=1e-6)
    np.testing.assert_allclose(image.GetOrigin(), [axis[0] for axis in (case.grid.x, case.grid.y, case.grid.z)], atol=1e-6)
    # the uppermost slice is the first, as in LIDC
    first = SimpleITK.ReadImage(str(folder / "1-001.dcm"))
    assert float(first.GetMetaData("0020|1041")) == pytest.approx(case.grid.z[-1])
    assert (first.GetMetaData("0028|1052").strip(), first.GetMetaData("0010|0020").strip()) == ("-1024", "LIDC-IDRI-9002")
    header = ElementTree.parse(folder / "002.xml").getroot()[0]
    assert header.findtext(f"{NAME}SeriesInstanceUid") == first.GetMetaData("0020|000e").strip() == folder.name
    assert header.findtext(f"{NAME}StudyInstanceUID") == first.GetMetaData("0020|000d").strip() == folder.parent.name

    masks = read_xml(folder / "002.xml", image)
    for session, mask in enumerate(masks):
        np.testing.assert_array_equal(mask, case.reader_mask(session))
    truth = load_nifti(str(written / "LIDC-IDRI-9002" / "probability.nii.gz"))
    assert (np.asanyarray(truth.dataobj).transpose(2, 1, 0) == case.probability()).all()
    # NIfTI is RAS, DICOM is LPS: x and y change their signs
    np.testing.assert_allclose(truth.affine @ [0, 0, 0, 1], [-case.grid.x[0], -case.grid.y[0], case.grid.z[0], 1], atol=1e-5)


def test_nodules_can_be_seen_and_readers_differ() -> None:
    cases = [lidc_phantom(index) for index in range(4)]
    spacings = {case.grid.spacing for case in cases}
    assert len(spacings) == 4
    assert all(1.25 <= step[0] <= 2.5 and 0.6 <= step[1] == step[2] <= 0.8 for step in spacings)
    counts = [len(nodule.marks) for case in cases for nodule in case.nodules]
    assert max(counts) == 4 > min(counts)
    assert all(len(case.nodules[0].marks) == 4 for case in cases)
    # readers stand in another order in each case
    sizes = [tuple(np.argsort([case.nodules[0].marks[s].sum() for s in range(4)])) for case in cases]
    assert len(set(sizes)) > 1
    assert any(nodule.has_cavity for case in cases for nodule in case.nodules)
    assert any(reading.small for case in cases for reading in case.readings)
    assert any(reading.non_nodules for case in cases for reading in case.readings)
    for case in cases:
        nodule, box = case.nodules[0], case.nodules[0].box
        sure, out = nodule.probability > 0.95, nodule.probability < 0.01
        inside, lung = np.median(case.image[box][sure]), np.median(case.image[box][out])
        assert lung < -780
        assert inside > lung + 150
        assert (case.image > 300).any()  # a rib
        assert 3 <= nodule.diameter <= 20


def test_probability_is_the_share_of_readers() -> None:
    case = lidc_phantom(0, shape=(44, 44, 14))
    rng, draws = np.random.default_rng(1), 240
    for nodule in case.nodules[1:2]:
        drawn = [draw_rater(nodule.latent, LIDC_STYLES[i % 4], rng)[0] for i in range(draws)]
        spread = np.sqrt(np.maximum(nodule.probability * (1 - nodule.probability), 1e-4) / draws)
        assert np.abs((np.mean(drawn, axis=0) - nodule.probability) / spread).max() < 5
        np.testing.assert_allclose(nodule.probability, rater_probability(nodule.latent, LIDC_STYLES)[0], atol=1e-6)
    assert np.shares_memory(case.nodules[0].latent.phi, case.nodules[0].latent.phi_main)  # every reader sees the first


def test_made_once_and_the_same_bytes(written: Path, tmp_path: Path) -> None:
    before = os.stat(written).st_mtime_ns
    assert ensure_lidc_phantoms(written, **SMALL) == str(written)
    assert os.stat(written).st_mtime_ns == before
    styles = [vars(style) for style in LIDC_STYLES]
    assert digest(Path(ensure_lidc_phantoms(tmp_path / "b", **SMALL, styles=styles))) == digest(written)
    with pytest.raises(FileExistsError, match="seed 2 instead of 3"):
        ensure_lidc_phantoms(written, **{**SMALL, "seed": 3})


@pytest.mark.long
def test_a_whole_chest() -> None:
    case: LidcPhantom = lidc_phantom(shape=(512, 512, 40), spacing=(0.7, 0.7, 5))
    air = case.image < -900
    assert 0.3 < air.mean() < 0.7
    assert all(3 <= nodule.diameter <= 20 for nodule in case.nodules)
    # both lungs: to the left and to the right of the spine
    middle = case.image[20, 256]
    assert (middle[:200] < -700).any()
    assert (middle[-200:] < -700).any()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"cases": 0}, "cases: expected a whole number from 1 to 999, got 0"),
        ({"shape": (20, 44, 16)}, r"shape: expected three whole numbers of at least \(40, 40, 12\)"),
        ({"spacing": (0.7, 0.8, 2)}, "spacing: expected three numbers of mm from 0.4 to 5, the first two equal"),
        ({"styles": LIDC_STYLES[1:]}, "styles: expected four, the first with miss_small 0"),
        ({"seed": -1}, "seed: expected a whole number >= 0"),
    ],
)
def test_wrong_settings_are_named(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        write_lidc_phantoms(tmp_path / "set", **{**SMALL, **settings})
    assert os.listdir(tmp_path) == []


def test_writing_leaves_the_locale_as_it_was(tmp_path: Path) -> None:
    before = locale.setlocale(locale.LC_ALL)
    write_lidc_phantoms(tmp_path / "set", cases=1, progress=False)
    assert locale.setlocale(locale.LC_ALL) == before
