import pytest

from passerby.data.readers.images import Images, read_images
from passerby.errors import UserError


def read(root):
    return read_images(Images(root=str(root)), "yard")


def test_everything_below_is_for_training_and_nobody_is_known(tmp_path, make_images):
    names = ["b.png", "deep/er/a.jpg", "gate/a.jpg"]
    make_images(tmp_path, [*names, "masks/b.png", ".hidden/c.jpg"])
    dataset = read(tmp_path)
    assert [path.removeprefix(f"{tmp_path}/") for path in dataset.train.path.tolist()] == names
    assert dataset.train.pid.tolist() == dataset.train.cam.tolist() == [-1, -1, -1]
    assert len(dataset.query) == len(dataset.gallery) == 0
    assert dataset.notes == (
        "Identities are unknown, so all images are for training without labels.",
        "No path holds a camera (as in c2 or cam2), so cameras are unknown.",
    )


def test_cameras_of_folders_or_names_count_where_most_paths_tell_them(tmp_path, make_images):
    make_images(tmp_path, ["cam1/a.png", "cam7/a.png", "x/0003_c2s1_000151_00.png"])
    dataset = read(tmp_path)
    assert dataset.train.cam.tolist() == [1, 7, 2]
    assert dataset.train.pid.tolist() == [-1, -1, -1]
    assert len(dataset.notes) == 1
    make_images(tmp_path, ["y.png"])
    dataset = read(tmp_path)
    assert dataset.train.cam.tolist() == [1, 7, 2, -1]
    assert dataset.notes[1].startswith(
        "1 of 4 images have no camera in their name (as in c2 or cam2) and get the unknown camera -1, "
    )
    make_images(tmp_path, ["z.png"])
    dataset = read(tmp_path)
    assert dataset.train.cam.tolist() == [-1] * 5
    assert dataset.notes[1].startswith(
        "Only 3 of 5 images have a camera in their name (as in c2 or cam2), fewer than 75 %, so all cameras"
    )


def test_nothing_to_read_is_told(tmp_path):
    with pytest.raises(UserError, match=rf"^images: the folder {tmp_path} is empty$"):
        read(tmp_path)
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UserError, match=rf"^images: no image in {tmp_path} or below it$"):
        read(tmp_path)
