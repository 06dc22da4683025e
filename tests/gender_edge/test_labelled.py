from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

from gender_edge import DataError
from gender_edge.labelled import list_images, read_labelled
from gender_edge.lists import write_csv
from gender_edge.samples import Sample, parse_label


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    return path


def test_folder_a_class(tmp_path: Path) -> None:
    touch(tmp_path / "train" / "Women" / "a.jpg")
    touch(tmp_path / "train" / "men" / "b.PNG")
    touch(tmp_path / "test" / "men" / "deeper" / "c.webp")
    touch(tmp_path / "test" / "men" / "notes.txt")
    samples = read_labelled(tmp_path)
    found = {(s.path.name, s.label, s.split) for s in samples}
    assert found == {
        ("a.jpg", "female", "train"),
        ("b.PNG", "male", "train"),
        ("c.webp", "male", "test"),
    }
    assert len(read_labelled(tmp_path, split="test")) == 1


def test_misnamed_pictures_are_not_left_out_in_silence(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folders, names = tmp_path / "folders", tmp_path / "names"
    touch(folders / "female" / "a.jpg")
    assert len(read_labelled(folders)) == 1 and not caplog.text
    touch(folders / "femal" / "b.jpg")
    assert len(read_labelled(folders)) == 1
    assert "1 of 2 pictures lie in no folder named female or male" in caplog.text
    assert str(Path("femal", "b.jpg")) in caplog.text
    for number in range(8):
        touch(folders / "test" / f"{number}.jpg")  # without labels, as competitions have them
    assert len(read_labelled(folders)) == 1
    touch(folders / "unknown" / "c.jpg")
    with pytest.raises(DataError, match="10 of 11 pictures lie in no folder"):
        read_labelled(folders)
    touch(names / "__MACOSX" / "._20_1_0_2.jpg")
    touch(names / "._20_1_0_2.jpg")
    for name in ("20_1_0_2.jpg", "61_1_20170109.jpg"):  # the second as UTKFace has it, thrice
        touch(names / name)
    caplog.clear()
    assert len(read_labelled(names)) == 1
    assert "1 of 2 pictures are not named age_gender_ethnicity_date" in caplog.text


def test_folders_may_be_links(tmp_path: Path) -> None:
    touch(tmp_path / "elsewhere" / "a.jpg")
    touch(tmp_path / "faces" / "male" / "b.jpg")
    (tmp_path / "faces" / "female").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "faces" / "male" / "up").symlink_to(tmp_path / "faces")  # a loop
    found = [(s.path.name, s.label) for s in read_labelled(tmp_path / "faces")]
    assert sorted(found) == [("a.jpg", "female"), ("b.jpg", "male")]


def test_a_split_may_be_a_link(tmp_path: Path) -> None:
    for label in ("female", "male"):
        touch(tmp_path / "elsewhere" / label / "a.jpg")
    (tmp_path / "faces").mkdir()
    (tmp_path / "faces" / "train").symlink_to(tmp_path / "elsewhere")
    found = [(s.label, s.split) for s in read_labelled(tmp_path / "faces")]
    assert sorted(found) == [("female", "train"), ("male", "train")]


def test_a_folder_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone: .*make it readable"):
        list(list_images(tmp_path / "gone"))


def test_utkface_names(tmp_path: Path) -> None:
    touch(tmp_path / "26_1_2_20170116.jpg")
    touch(tmp_path / "61_0_0_20170117.jpg.chip.jpg")
    touch(tmp_path / "39_1_20170116.jpg")  # the real set has three of these, without ethnicity
    woman, man = read_labelled(tmp_path)
    assert (woman.label, woman.age, woman.ethnicity) == ("female", 26, "Asian")
    assert (man.label, man.age, man.ethnicity) == ("male", 61, "White")


def test_celeba_lists(tmp_path: Path) -> None:
    (tmp_path / "list_attr_celeba.txt").write_text(
        "2\nSmiling Male Young\n000001.jpg  1 -1  1\n000002.jpg -1  1  1\n"
    )
    (tmp_path / "list_eval_partition.txt").write_text("000001.jpg 0\n000002.jpg 2\n")
    (tmp_path / "identity_CelebA.txt").write_text("000001.jpg 2880\n000002.jpg 2937\n")
    (tmp_path / "list_landmarks_align_celeba.txt").write_text(
        "2\nlefteye_x lefteye_y\n000001.jpg 69 109 106 113 77 142 73 152 108 154\n"
    )
    (tmp_path / "img_align_celeba").mkdir()
    woman, man = read_labelled(tmp_path)
    assert (woman.label, woman.split, woman.identity) == ("female", "train", "2880")
    assert (man.label, man.split, man.landmarks) == ("male", "test", None)
    assert woman.landmarks is not None and woman.landmarks[1] == (106, 113)
    assert woman.path == tmp_path / "img_align_celeba" / "000001.jpg"


def test_sets_as_they_are_published(tmp_path: Path) -> None:
    """CelebA's lists and pictures in three folders, UTKFace's pictures in parts."""
    celeba = tmp_path / "celeba"
    touch(celeba / "Anno" / "list_attr_celeba.txt").write_text("1\nMale\n000001.jpg  1\n")
    touch(celeba / "Anno" / "identity_CelebA.txt").write_text("000001.jpg 2880\n")
    touch(celeba / "Eval" / "list_eval_partition.txt").write_text("000001.jpg 1\n")
    picture = touch(celeba / "Img" / "img_align_celeba" / "000001.jpg")
    (man,) = read_labelled(celeba)
    assert (man.path, man.label, man.split, man.identity) == (picture, "male", "val", "2880")
    utkface = tmp_path / "utkface"
    touch(utkface / "part1" / "26_1_2_20170116.jpg")
    assert [s.label for s in read_labelled(utkface)] == ["female"]


def test_splits_have_one_spelling(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("path,label,split\na,f,Train \nb,f,validation\nc,f,fold 3\n")
    found = read_labelled(tmp_path / "list.csv")
    assert [s.split for s in found] == ["train", "val", "fold 3"]
    assert read_labelled(tmp_path / "list.csv", "Valid") == [found[1]]


def test_lfw_label_files(tmp_path: Path) -> None:
    (tmp_path / "female_names.txt").write_text("Ann_Lee_0001.jpg\n")
    (tmp_path / "male_names.txt").write_text("Bo_0001.jpg\nBo_0002.jpg\n")
    samples = read_labelled(tmp_path)
    assert [s.label for s in samples] == ["female", "male", "male"]
    assert samples[0].identity == "Ann_Lee"
    assert samples[0].path == tmp_path / "Ann_Lee" / "Ann_Lee_0001.jpg"


def test_csv_round_trip(tmp_path: Path) -> None:
    archive = tmp_path / "faces.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a.jpg", b"content")
    points = tuple((float(i), i + 0.5) for i in range(5))
    samples = [
        Sample(archive, "male", "a.jpg", "val", "Bo", 7, "Black", (1, 2, 3, 4), points),
        Sample(touch(tmp_path / "b, c.jpg"), "female"),
    ]
    write_csv(samples, tmp_path / "lists" / "list.csv")
    assert read_labelled(tmp_path / "lists" / "list.csv") == samples
    assert [s.read() for s in samples] == [b"content", b"x"]
    np.testing.assert_array_equal(samples[0].landmark_array(), points)


def test_plain_csv_is_relative_to_itself(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("path,label\nsub/a.jpg,F\n")
    assert read_labelled(tmp_path / "list.csv")[0].path == tmp_path / "sub" / "a.jpg"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,sex\n", "expected path"),
        ("path,label\na.jpg,1\n", "list.csv:2.*label '1'"),
        ("path,label\n", "no labelled pictures"),
        ("path,label,box\na.jpg,f,1 2 3\n", "expected 4 number"),
        ("path,label,landmarks\na.jpg,f,1 2 x\n", "expected 10 number"),
        ("path,label,age\na.jpg,f,old\n", "list.csv:2"),
        ("path,label\n,f\n", "no path"),
    ],
)
def test_bad_lists(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        read_labelled(tmp_path / "list.csv")


def test_unreadable_places(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        read_labelled(tmp_path / "none")
    with pytest.raises(DataError, match="not a labelled folder"):
        read_labelled(tmp_path)
    with pytest.raises(DataError, match="cannot be read"):
        Sample(tmp_path / "a.jpg", "male").read()
    latin = tmp_path / "latin.csv"
    latin.write_bytes("path,label\nMüller.jpg,m\n".encode("latin-1"))
    with pytest.raises(DataError, match="labelled list"):
        read_labelled(latin)
    (tmp_path / "list_attr_celeba.txt").write_text("1\nSmiling Young\n")
    with pytest.raises(DataError, match="labelled list"):
        read_labelled(tmp_path)
    with pytest.raises(DataError, match="label 'maybe'"):
        parse_label("maybe", "list")
