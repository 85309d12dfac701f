import pytest

from passerby.data.readers.table import Csv, read_csv
from passerby.errors import UserError


def read(folder, text, **settings):
    (folder / "list.csv").write_text(text, encoding="utf-8")
    return read_csv(Csv(path=str(folder / "list.csv"), **settings), "mine")


def test_every_column(tmp_path):
    dataset = read(
        tmp_path,
        "path,pid,cam,role,frame,mask,colour\n"
        "a/1.jpg,anna,door,train,5,m/1.png,red\n"
        "/abs/2.jpg,ben,hall,query,6,,\n"
        "3.jpg,ben,door,gallery,7,,\n"
        "4.jpg,,,gallery,8,,\n"
        "5.jpg,ben,door,,9,,\n",
    )
    assert dataset.train.path.tolist() == [f"{tmp_path}/a/1.jpg"]
    assert dataset.train.mask_path.tolist() == [f"{tmp_path}/m/1.png"]
    assert dataset.train.frame.tolist() == [5]
    assert dataset.query.path.tolist() == ["/abs/2.jpg"]
    assert dataset.query.mask_path is None
    assert (dataset.query.pid.tolist(), dataset.query.cam.tolist()) == ([1], [1])
    assert (dataset.gallery.pid.tolist(), dataset.gallery.cam.tolist()) == ([1, -1], [0, -1])
    assert dataset.notes == (
        "Images without a role left out: 1.",
        "The identities are words and are numbered in sorted order: anna = 0, ben = 1.",
        "The cameras are words and are numbered in sorted order: door = 0, hall = 1.",
    )


@pytest.mark.parametrize("mark", [";", "\t"])
def test_other_separators_spaces_and_a_byte_order_mark(tmp_path, mark):
    text = "\ufeff path,pid ,role\n\n 1.jpg , 7,query \n".replace(",", mark)
    dataset = read(tmp_path, text)
    assert (dataset.query.path.tolist(), dataset.query.pid.tolist()) == ([f"{tmp_path}/1.jpg"], [7])


def test_quoted_cells(tmp_path):
    dataset = read(tmp_path, 'path,pid,role\n"a,b.jpg","x ""y""",train\n')
    assert dataset.train.path.tolist() == [f"{tmp_path}/a,b.jpg"]


def test_without_roles_the_table_is_divided(tmp_path):
    text = "path,pid,cam\n" + "".join(f"{pid}{cam}.jpg,{pid},{cam}\n" for pid in range(4) for cam in range(2))
    dataset = read(tmp_path, text)
    assert (len(dataset.train), len(dataset.query), len(dataset.gallery)) == (4, 2, 2)
    assert dataset.notes[0].startswith("The data set has no split")
    assert len(read(tmp_path, text, test_share=0.0).train) == 8


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("path,cam\n1.jpg,1\n", "FILE lacks the column 'pid'; it has path, cam"),
        ("pid\n1\n", "FILE lacks the column 'path'; it has pid"),
        ("", "FILE lacks the column 'path'; it has none"),
        ("path,pid,camera\n1.jpg,1,1\n", "FILE has a column 'camera'; call it 'cam'"),
        ("Path,pid\n1.jpg,1\n", "FILE has a column 'Path'; call it 'path'"),
        ("path,pid,Split\n1.jpg,1,train\n", "FILE has a column 'Split'; call it 'role'"),
        ("path,pid,pid\n1.jpg,1,1\n", "FILE has two columns 'pid'"),
        ("path,pid\n", "FILE has no line below its header"),
        ("path,pid\n1.jpg,1\n2.jpg\n", "FILE, line 3 has 1 cells, the header has 2"),
        ("path,pid\n,1\n", "FILE, line 2 has no path"),
        ("path,pid,frame\n1.jpg,1,x\n", "FILE, line 2: frame 'x' is not a whole number"),
        ("path,pid,role\n1.jpg,1,galery\n", "FILE, line 2: role 'galery' is not known; allowed: train, query, gallery; "
         "did you mean 'gallery'?"),
        ("path,pid,role\n1.jpg,1,\n", "no line of FILE has a role; allowed: train, query, gallery"),
    ],
)  # fmt: skip
def test_mistakes(tmp_path, text, sentence):
    with pytest.raises(UserError) as caught:
        read(tmp_path, text)
    assert str(caught.value) == "csv: " + sentence.replace("FILE", f"{tmp_path}/list.csv")


def test_share_beside_roles_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"^csv: test_share has no effect, because .*list.csv has a column 'role'$"):
        read(tmp_path, "path,pid,role\n1.jpg,1,train\n", test_share=0.5)


def test_unreadable_files(tmp_path):
    with pytest.raises(UserError, match=r"^csv: cannot read .*gone.csv: no such file or directory$"):
        read_csv(Csv(path=str(tmp_path / "gone.csv")), "mine")
    (tmp_path / "list.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"^csv: .*list.csv is not a CSV file in UTF-8 \("):
        read_csv(Csv(path=str(tmp_path / "list.csv")), "mine")


def test_masks_beside_the_table_and_where_told(tmp_path, make_images):
    make_images(tmp_path, ["masks/a/1.png", "other/a/2.png", "../2.png"])
    text = "path,pid,role\na/1.jpg,1,train\na/2.jpg,1,train\n../2.jpg,1,train\n"
    assert read(tmp_path, text).train.mask_path.tolist() == [f"{tmp_path}/masks/a/1.png", "", ""]
    found = read(tmp_path, text, masks=str(tmp_path / "other")).train.mask_path
    assert found.tolist() == ["", f"{tmp_path}/other/a/2.png", ""]


def test_a_folder_of_masks_beside_a_column_has_no_effect(tmp_path):
    with pytest.raises(UserError, match=r"csv: masks has no effect, because .* has a column 'mask'"):
        read(tmp_path, "path,pid,mask\na.jpg,1,a.png\n", masks="x")


def test_paths_written_on_windows(tmp_path):
    (tmp_path / "odd\\name.jpg").touch()
    dataset = read(tmp_path, "path,pid,role,mask\na\\b\\1.jpg,1,train,m\\1.png\nodd\\name.jpg,1,train,\n")
    assert dataset.train.path.tolist() == [f"{tmp_path}/a/b/1.jpg", f"{tmp_path}/odd\\name.jpg"]
    assert dataset.train.mask_path.tolist() == [f"{tmp_path}/m/1.png", ""]
    with pytest.raises(UserError, match=r"^csv: .*list.csv names C:\\a\\1.jpg, a path with a drive of Windows; write"):
        read(tmp_path, "path,pid\nC:\\a\\1.jpg,1\n")


def test_frames_of_any_length_keep_their_order(tmp_path):
    frames = ("20240131235959123450", "7", "20240131235959123449")
    text = "path,pid,role,frame\n" + "".join(f"{row}.jpg,1,train,{frame}\n" for row, frame in enumerate(frames))
    assert read(tmp_path, text).train.frame.tolist() == [2, 0, 1]
    with pytest.raises(
        UserError, match=r"line 2: frame '99999999999999999999'\.\.\. \(5,000 characters\) is not a whole"
    ):
        read(tmp_path, f"path,pid,frame\n1.jpg,1,{'9' * 5000}\n")
