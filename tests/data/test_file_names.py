import pytest

from monai_jdt.data.file_names import case_name, rater_names_of


@pytest.mark.parametrize(
    ("image", "raters", "name"),
    [
        ("LIDC-IDRI-0001/ct.nii.gz", ["LIDC-IDRI-0001/reader0.nii.gz", "LIDC-IDRI-0001/reader1.nii.gz"], "LIDC-IDRI-0001"),
        ("retina/Image_01L.jpg", ["retina/Image_01L_1stHO.png", "retina/Image_01L_2ndHO.png"], "Image_01L"),
        ("raw/B01.png", ["a/seg_B01.png", "b/Seg_b01.png"], "B01"),
        ("x/BraTS2021_00003_flair.nii.gz", ["x/BraTS2021_00003_seg_rater1.nii.gz"], "BraTS2021_00003"),
        ("case07/image.nii.gz", ["case07/task01_seg01.nii.gz", "case07/task01_seg02.nii.gz"], "case07"),
        ("imagesTr/liver_12_0000.nii.gz", ["labelsTr/liver_12.nii.gz"], "liver_12"),
        ("spine_mri/T1w.nii.gz", ["spine_mri/cord_seg.nii.gz"], "spine_mri"),
        ("spine/t2.nii.gz", ["spine/t2_seg.nii.gz"], "spine"),
        ("a/scan11.png", ["b/scan12.png"], "scan11"),  # another case's rater: no name of half a number
    ],
)
def test_the_case_is_named_by_its_files_not_by_the_word_image(image: str, raters: list[str], name: str) -> None:
    assert case_name(image, raters) == name


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["c/reader0.nii.gz", "c/reader1.nii.gz"], ["reader0", "reader1"]),
        (["c/01_1stHO.png", "c/01_2ndHO.png"], ["1stHO", "2ndHO"]),
        (["c/x_seg_1.nii", "c/x_seg_2.nii", "c/x_seg_10.nii"], ["rater 1", "rater 2", "rater 10"]),
        (["Person1_Amira/seg_B01.png", "Person2_Amira/Seg_B01.png"], ["Person1", "Person2"]),
        (["Anna/c1/seg.nii", "Ben/c1/seg.nii"], ["Anna", "Ben"]),
        (["a.nii"], ["rater 1"]),
        (["a/x.nii", "a/x.nii"], ["rater 1", "rater 2"]),
        (["a/seg.nii", "a/seg_2.nii"], ["seg", "seg_2"]),
    ],
)
def test_raters_are_named_by_what_differs(paths: list[str], names: list[str]) -> None:
    assert rater_names_of(paths) == names
