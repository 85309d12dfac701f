import pytest

from passerby.data.readers.cameras import camera_of, camera_of_folder
from passerby.data.readers.roles import is_container, looks_like_fold, path_parts, role_of

ROLES = {
    "train": ("train", "Training", "bounding_box_train", "image_train", "bbox_train", "train_images"),
    "query": ("query", "image_query", "probe", "Probe_Images"),
    "gallery": ("gallery", "bounding_box_test", "gallery-set"),
    "test": ("test", "image_test", "bbox_test"),
    "val": ("val", "validation"),
    "": ("anna", "0001", "gt_query", "train_v2", "images", "c1", "latest"),
}


@pytest.mark.parametrize(("role", "name"), [(role, name) for role, names in ROLES.items() for name in names])
def test_roles(role, name):
    assert role_of(name) == role


@pytest.mark.parametrize(
    ("name", "cam"),
    [
        *(
            ("cam01", "1"),
            ("c3", "3"),
            ("C003", "3"),
            ("camera_2", "2"),
            ("CAM-A", "a"),
            ("camB", "b"),
            ("view 2", "2"),
        ),
        *(("cam_a", "a"), ("camille", ""), ("came", ""), ("carl", ""), ("c", ""), ("0001", ""), ("0001_c3", "")),
    ],
)
def test_camera_folders(name, cam):
    assert camera_of_folder(name) == cam
    if cam:
        assert camera_of(f"x/{name}/7.jpg") == cam


def test_what_is_neither_role_nor_camera_may_be_the_identity():
    assert path_parts("data/cam1/images/train/anna/7.jpg").others == ("anna",)
    assert path_parts("query/x.jpg").others == ()
    assert [name for name in ("split_1", "test2", "ben", "night", "0007") if looks_like_fold(name)] == [
        "split_1",
        "night",
    ]
    assert [name for name in ("images", "JPG", "bounding_box", "anna_images") if is_container(name)] == [
        "images",
        "JPG",
        "bounding_box",
    ]
