"""Data lists as tables: one column or one row per rater, read, written, and refused with the line."""

from pathlib import Path
from typing import Any

import pytest

from monai_jdt.data import DataProblemError, read_datalist, write_datalist


def written(path: Path, text: str, encoding: str = "utf-8") -> str:
    path.write_text(text, encoding=encoding)
    return str(path)


@pytest.mark.parametrize(
    ("name", "text", "encoding"),
    [
        ("list.csv", "Case,image,Anna,ben,fold\n1,im/1.png,a/1.png,,0\n2,im/2.png,a/2.png,b/2.png,1\n", "utf-8"),
        ("list.csv", "case;image;Anna;ben;fold\r\n1;im/1.png;a/1.png;;0\r\n\r\n2;im/2.png;a/2.png;b/2.png;1\r\n", "utf-8-sig"),
        ("list.tsv", "case\timage\tAnna\tben\tfold\n1\tim/1.png\ta/1.png\t\t0\n2\tim/2.png\ta/2.png\tb/2.png\t1\n", "utf-8"),
    ],
)
def test_a_column_for_each_rater(tmp_path: Path, name: str, text: str, encoding: str) -> None:
    items = read_datalist(written(tmp_path / name, text, encoding), rater_names=True)
    first = {"case": "1", "fold": 0, "image": f"{tmp_path}/im/1.png", "raters": [f"{tmp_path}/a/1.png"], "rater_names": ["Anna"]}
    assert items[0] == first
    assert items[1]["rater_names"] == ["Anna", "ben"]
    assert str(items.found.skipped[0]).startswith(f"{tmp_path / name}: line 2 (case 1): raters[1]: null")


def test_a_row_for_each_rater(tmp_path: Path) -> None:
    text = (
        "case,patient,image_2,image_1,rater,file\n"
        "1,p,t2.nii,t1.nii,anna,a.nii\n2,q,t2b.nii,t1b.nii,ben,b.nii\n1,p,t2.nii,t1.nii,ben,c.nii\n"
    )
    one, two = read_datalist(written(tmp_path / "list.csv", text), rater_names=True)
    assert [Path(path).name for path in (*one["image"], *one["raters"])] == ["t1.nii", "t2.nii", "a.nii", "c.nii"]
    assert (one["patient"], one["rater_names"], two["rater_names"]) == ("p", ["anna", "ben"], ["ben"])


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "expected a heading and one row per case, got an empty file"),
        ("case,anna\n1,a.png\n", "line 1: expected a column image, or image_1, image_2, ..., got case, anna"),
        ("case,image,a,a\n", "line 1: expected a heading with a name for each column, all different, got 'a' twice"),
        ("case,image,anna\n1,i.png\n", "line 2: expected 3 fields, as the heading, got 2"),
        ("case,image,age\n\n1,i.png,53\n", "line 3: age: expected a rater's file, got '53'"),
        ("case,image,anna\n1,,a.png\n", "line 2: expected an image, got an empty field"),
        ("case,image,fold\n1,i.png,x\n", "line 2: fold: expected a whole number, got 'x'"),
        (
            "image,rater,file\ni.png,anna,a.png\ni.png,anna,b.png\n",
            "line 3: rater: expected each rater's name once in a case, got 'anna' twice",
        ),
        ("case,image,rater,file\n1,i.png,anna,a.png\n1,j.png,ben,b.png\n", "line 3: image: expected one value for all rows of a case"),
        ("image,rater,file,weight\ni.png,anna,a.png,2\n", "line 1: expected no column weight, which no verb follows, got one"),
        ('case,image,anna\n1,"i.png,a.png\n2,j.png,b.png\n', "line 2: expected fields that are quoted as a whole or not at all, got "),
        ('case,image,anna\n1,"i.png,a.png\n2,"j.png,b.png\n', "line 2: expected fields that are quoted as a whole or not at all, got "),
        ('case,image,anna\n1,"i.png\n2",a.png\n', "line 2: expected a row on one line, got a quote that is closed in line 3"),
        ("image,rater\ni.png,anna\n", "line 1: expected the columns rater and file together, got one of them"),
        ("image,anna\nC:\\\\x\\i.png,a.png\n", "line 2: image: expected a path on this machine"),
    ],
)
def test_a_table_that_cannot_be_read_is_one_line(tmp_path: Path, text: str, line: str) -> None:
    path = written(tmp_path / "list.csv", text)
    with pytest.raises(DataProblemError) as caught:
        read_datalist(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: {line}")
    assert "\n" not in message


@pytest.mark.parametrize("name", ["list.csv", "list.tsv"])
def test_what_is_written_is_read(tmp_path: Path, name: str) -> None:
    place = str(tmp_path)
    items: list[dict[str, Any]] = [
        {"case": "a, b", "image": f"{place}/1.nii", "raters": [f"{place}/x.nii"], "rater_names": ["Anna"], "fold": 1},
        {"case": "c", "image": f"{place}/2.nii", "raters": [f"{place}/y.nii", f"{place}/z.nii"], "rater_names": ["ben", "Anna"]},
    ]
    sections = {"training": items[:1], "validation": items[1:]}
    path = write_datalist(sections, tmp_path / name)
    (one,) = read_datalist(path, rater_names=True)
    (two,) = read_datalist(path, "validation", rater_names=True)
    assert one == items[0]
    assert (two["rater_names"], two["raters"]) == (["Anna", "ben"], [f"{place}/z.nii", f"{place}/y.nii"])
    write_datalist(sections, path)  # a list may be replaced, another table may not
    other = written(tmp_path / f"other{name}", "age,sex\n")
    with pytest.raises(FileExistsError, match="a data list to replace"):
        write_datalist(sections, other)
    with pytest.raises(DataProblemError, match="raters that are columns of a table, one file each, got lists of files"):
        write_datalist([{"case": "k", "image": "i.nii", "raters": [[["a.nii"]]]}], tmp_path / f"new{name}")


ITEM: dict[str, Any] = {"case": "k", "image": "i.nii", "raters": ["a.nii", "b.nii"], "rater_names": ["anna", "ben"]}


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"rater_names": None}, "k: expected a name for each of 2 raters, got none"),
        ({"rater_names": ["anna"]}, "k: expected a name for each of 2 raters, got anna"),
        ({"rater_names": ["anna", "Image_1"]}, "k: expected raters that are columns of a table, got the rater 'Image_1'"),
        ({"rater_weights": [1, 2]}, "k: expected keys that are columns of a table, got 'rater_weights'"),
        ({"channels": [0]}, "k: expected keys that are columns of a table, got 'channels'"),
        ({"foreground": [255, 0, 0]}, "k: expected text of one line, without blanks at its ends, got [255, 0, 0]"),
        ({"patient": "a\nb"}, "k: expected text of one line, without blanks at its ends, got 'a\\nb'"),
        ({"image": ["i.nii", "j.nii"]}, "k: expected as many image files as in the other items, got 2, and 1 in the first item"),
    ],
)
def test_what_a_table_cannot_hold_is_refused(tmp_path: Path, change: dict[str, Any], line: str) -> None:
    with pytest.raises(DataProblemError) as caught:
        write_datalist([ITEM | {"case": "first"}, ITEM | change], tmp_path / "list.csv")
    assert str(caught.value) == f"{line}. Fix: write a .json file."
    assert not (tmp_path / "list.csv").exists()


def test_a_label_is_the_one_rater_of_a_table_too(tmp_path: Path) -> None:
    item = {"case": "k", "image": f"{tmp_path}/i.nii", "label": f"{tmp_path}/l.nii", "raters": [f"{tmp_path}/l.nii"]}
    path = write_datalist({"validation": [item]}, tmp_path / "list.csv")
    assert list(read_datalist(path, "validation")) == [item]
