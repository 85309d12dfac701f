import pytest
from pydantic import ValidationError

from passerby.data.readers.folder import Folder, read_folder
from passerby.errors import UserError

NO_CAMERA = "No camera is known: an evaluation counts matches from the query's own camera."


def read(root, **settings):
    return read_folder(Folder(root=str(root), **settings), "mine")


def names_of(split, root):
    return [path.removeprefix(f"{root}/") for path in split.path.tolist()]


@pytest.mark.parametrize(
    ("train", "gallery"), [("train", "gallery"), ("bounding_box_train", "bounding_box_test"), ("Train", "test")]
)
def test_divided_with_market_names(tmp_path, make_images, train, gallery):
    names = [
        f"{train}/0003_c1s1_000001_00.jpg",
        "query/0001_c2.png",
        f"{gallery}/0001_c12_000007.jpg",
        f"{gallery}/0000_c1.jpg",
    ]
    make_images(tmp_path, [*names, f"{gallery}/-1_c1.jpg", f"{train}/0000_c1.jpg"])
    dataset = read(tmp_path)
    assert names_of(dataset.train, tmp_path) == names[:1]
    assert names_of(dataset.query, tmp_path) == names[1:2]
    assert dataset.gallery.pid.tolist() == [0, 1]
    assert dataset.gallery.cam.tolist() == [1, 12]
    assert dataset.train.frame.tolist() == [1]
    assert dataset.notes == (
        "Junk images (identity -1) left out: 1.",
        "Images of identity 0 left out of training, because this naming marks distractors with 0: 1.",
    )


def test_divided_with_a_folder_per_person(tmp_path, make_images):
    names = ["train/ben/a_cam2_1.jpg", "query/anna/c1.jpg", "gallery/anna/C3s1_00.jpg", "val/x/c1.jpg"]
    make_images(tmp_path, names)
    dataset = read(tmp_path)
    assert (dataset.train.pid.tolist(), dataset.train.cam.tolist()) == ([1], [2])
    assert (dataset.query.pid.tolist(), dataset.query.cam.tolist()) == ([0], [1])
    assert (dataset.gallery.pid.tolist(), dataset.gallery.cam.tolist()) == ([0], [3])
    assert dataset.notes == (
        "Not read: val.",
        "The identities are words and are numbered in sorted order: anna = 0, ben = 1.",
    )


def test_an_undivided_test_folder_is_divided(tmp_path, make_images):
    make_images(tmp_path, ["train/1/c1.jpg", "test/2/c1.jpg", "test/2/c1_b.jpg", "test/2/c2.jpg"])
    dataset = read(tmp_path)
    assert names_of(dataset.query, tmp_path) == ["test/2/c1.jpg"]
    assert names_of(dataset.gallery, tmp_path) == ["test/2/c1_b.jpg", "test/2/c2.jpg"]
    assert dataset.notes == (
        "test is not divided: one image per identity and camera is a query, the others are the gallery.",
    )


def test_parts_may_be_missing(tmp_path, make_images):
    make_images(tmp_path, ["query/1_c1.jpg", "gallery/1_c2.jpg"])
    dataset = read(tmp_path)
    assert (len(dataset.train), len(dataset.query), len(dataset.gallery)) == (0, 1, 1)


def test_undivided_folder_per_person(tmp_path, make_images):
    files = [f"{pid}/img_{number}.jpg" for pid in ("anna", "ben", "carl", "dora") for number in range(3)]
    make_images(tmp_path, [*files, "masks/anna/img_0.png"])
    dataset = read(tmp_path)
    assert (
        sorted(
            names_of(dataset.train, tmp_path) + names_of(dataset.query, tmp_path) + names_of(dataset.gallery, tmp_path)
        )
        == files
    )
    assert (dataset.train.count_identities, len(dataset.query), len(dataset.gallery)) == (2, 2, 4)
    assert set(dataset.train.cam.tolist()) == {-1}
    assert dataset.notes[0].startswith("The data set has no split; identities for training: 2, for testing: 2 ")
    assert (
        dataset.notes[1]
        == "The identities are words and are numbered in sorted order: anna = 0, ben = 1, carl = 2, dora = 3."
    )
    assert dataset.notes[2] == NO_CAMERA


@pytest.mark.parametrize(("share", "counts"), [(0.0, (4, 0, 0)), (1.0, (0, 2, 2)), (0, (4, 0, 0)), (1, (0, 2, 2))])
def test_all_for_training_or_all_for_testing(tmp_path, make_images, share, counts):
    make_images(tmp_path, ["1/c1.jpg", "1/c2.jpg", "2/c1.jpg", "2/c2.jpg"])
    dataset = read(tmp_path, test_share=share)
    assert (len(dataset.train), len(dataset.query), len(dataset.gallery)) == counts


def test_flat_market_names_keep_distractors_in_the_gallery(tmp_path, make_images):
    make_images(tmp_path, ["0001_c1.jpg", "0001_c2.jpg", "0000_c1.jpg", "-1_c1.jpg"])
    dataset = read(tmp_path, test_share=1.0)
    assert names_of(dataset.gallery, tmp_path) == ["0000_c1.jpg", "0001_c2.jpg"]
    assert dataset.gallery.pid.tolist() == [0, 1]
    dataset = read(tmp_path, test_share=0.0)
    assert names_of(dataset.train, tmp_path) == ["0001_c1.jpg", "0001_c2.jpg"]
    assert (
        "Images of identity 0 left out of training, because this naming marks distractors with 0: 1." in dataset.notes
    )


def test_pattern_with_folders(tmp_path, make_images):
    make_images(tmp_path, ["anna/door/1.jpg", "anna/hall/2.jpg", "0/door/1.jpg"])
    dataset = read(tmp_path, pattern="{pid}/{cam}/{frame}.jpg", test_share=0.0)
    assert (dataset.train.pid.tolist(), dataset.train.cam.tolist(), dataset.train.frame.tolist()) == (
        [0, 1, 1],
        [0, 0, 1],
        [1, 1, 2],
    )
    assert "The cameras are words and are numbered in sorted order: door = 0, hall = 1." in dataset.notes


def test_pattern_in_a_divided_folder(tmp_path, make_images):
    make_images(tmp_path, ["query/anna-1.jpg", "gallery/anna-2.jpg"])
    dataset = read(tmp_path, pattern="{pid}-{cam}")
    assert (dataset.query.cam.tolist(), dataset.gallery.cam.tolist()) == ([1], [2])


def test_pattern_without_identities_gives_an_unlabelled_set(tmp_path, make_images):
    make_images(tmp_path, ["c1_a.jpg", "c2_b.jpg"])
    dataset = read(tmp_path, pattern="c{cam}_*")
    assert (dataset.train.pid.tolist(), dataset.train.cam.tolist(), len(dataset.query)) == ([-1, -1], [1, 2], 0)
    assert dataset.notes == ("No identity is known, so only training without labels is possible.",)


@pytest.mark.parametrize(
    ("name", "cam"),
    [
        ("c1s1_000151.jpg", 1),
        ("0001C1T0001F001.jpg", 1),
        ("cam2.jpg", 2),
        ("x_Camera-03_y.png", 3),
        ("img c7 (2).jpg", 7),
        ("abc12.jpg", -1),
        ("c1x.jpg", -1),
        ("img_0001.jpg", -1),
    ],
)
def test_camera_in_a_file_name(tmp_path, make_images, name, cam):
    make_images(tmp_path, [f"5/{name}"])
    assert read(tmp_path, test_share=0.0).train.cam.tolist() == [cam]


def test_a_camera_in_few_names_is_chance(tmp_path, make_images):
    make_images(tmp_path, ["1/3f-c4-aa.jpg", "1/3f-aa-bb.jpg"])
    dataset = read(tmp_path, test_share=0.0)
    assert dataset.train.cam.tolist() == [-1, -1]
    assert dataset.notes[-1] == NO_CAMERA
    assert dataset.notes[0] == (
        "Only 1 of 2 images have a camera in their name (as in c2 or cam2), fewer than 75 %, so all cameras are taken "
        "as unknown (without one: 1/3f-aa-bb.jpg); rename them, or give a pattern with {cam}."
    )


def test_a_few_names_without_a_camera_leave_the_others_theirs(tmp_path, make_images):
    files = [f"{pid}/c{cam}_7.jpg" for pid in range(1, 6) for cam in (1, 2)]
    make_images(tmp_path, [*files, "1/portrait.jpg", "2/portrait.jpg", "3/portrait.jpg"])
    dataset = read(tmp_path, test_share=0.0)
    assert (dataset.train.cam == -1).sum() == 3
    assert dataset.train.count_cameras == 2
    assert dataset.notes[0] == (
        "3 of 13 images have no camera in their name (as in c2 or cam2) and get the unknown camera -1, which counts as "
        "one camera: 1/portrait.jpg, 2/portrait.jpg, 3/portrait.jpg; rename them, or give a pattern with {cam}."
    )


def test_vehicle_folders_are_roles_and_not_people(tmp_path, make_images):
    names = ["image_train/0001_c001_00016450_0.jpg", "image_query/0002_c002_00030600_0.jpg"]
    make_images(tmp_path, [*names, "image_test/0002_c003_00030601_0.jpg"])
    dataset = read(tmp_path)
    assert (dataset.train.pid.tolist(), dataset.query.pid.tolist(), dataset.gallery.pid.tolist()) == ([1], [2], [2])


def test_roles_and_cameras_are_known_at_any_depth(tmp_path, make_images):
    names = ["train/cam01/anna/x.jpg", "train/cam02/anna/y.jpg", "test/probe/CAM-A/ben/1.jpg"]
    make_images(tmp_path, [*names, "test/gallery/CAM-B/ben/2.jpg"])
    dataset = read(tmp_path)
    assert (dataset.train.pid.tolist(), dataset.train.count_cameras) == ([0, 0], 2)
    assert names_of(dataset.query, tmp_path) == ["test/probe/CAM-A/ben/1.jpg"]
    assert (dataset.query.pid.tolist(), dataset.gallery.pid.tolist()) == ([1], [1])
    assert dataset.query.cam.tolist() != dataset.gallery.cam.tolist()
    by_pattern = read(tmp_path, pattern="{cam}/{pid}/*")
    assert (by_pattern.query.pid.tolist(), by_pattern.gallery.pid.tolist()) == ([1], [1])


def test_a_folder_that_only_holds_the_images_is_no_person(tmp_path, make_images):
    make_images(tmp_path, ["train/images/0001_c1.jpg", "train/images/0002_c1.jpg"])
    assert read(tmp_path).train.pid.tolist() == [1, 2]
    make_images(tmp_path / "b", ["trip/0001_c1.jpg", "trip/0002_c2.jpg"])
    assert read(tmp_path / "b", test_share=0.0).train.pid.tolist() == [1, 2]


@pytest.mark.parametrize("junk", [[], ["query/-1_c1.jpg"]])
def test_a_person_with_the_number_0_is_a_person(tmp_path, make_images, junk):
    names = ["train/0000_c1.jpg", "train/0001_c2.jpg", "query/0000_c1.jpg", "gallery/0000_c2.jpg", *junk]
    make_images(tmp_path, names)
    dataset = read(tmp_path)
    assert (dataset.train.pid.tolist(), dataset.query.pid.tolist()) == ([0, 1], [0])
    assert dataset.notes[-1].startswith("Identity 0 is taken for an identity like any other, because training or query")


def test_people_counted_from_0_in_one_folder(tmp_path, make_images):
    make_images(tmp_path, [f"{pid:04d}_c{cam}.jpg" for pid in range(4) for cam in (1, 2)])
    dataset = read(tmp_path)
    assert len(dataset.train) + len(dataset.query) + len(dataset.gallery) == 8
    assert 0 in {*dataset.train.pid.tolist(), *dataset.query.pid.tolist()}


def test_masks_inside(tmp_path, make_images):
    make_images(tmp_path, ["anna/c1.jpg", "masks/anna/c1.png"])
    assert read(tmp_path, test_share=0.0).train.mask_path.tolist() == [f"{tmp_path}/masks/anna/c1.png"]


MISTAKES = [
    (
        ["train/1_c1.jpg", "query/1_c1.jpg"],
        {"test_share": 0.5},
        "test_share has no effect, because ROOT is divided already (train, query)",
    ),
    (
        ["train/1_c1.jpg", "bounding_box_train/1_c1.jpg"],
        {},
        "ROOT holds both bounding_box_train and train; keep one",
    ),
    (
        ["anna/1.jpg", "x.jpg"],
        {},
        "ROOT holds both images (x.jpg) and folders of images (anna); keep one kind or give a pattern (--pattern)",
    ),
    (
        ["a/b/c.jpg"],
        {},
        "of ROOT/a/b/c.jpg, any of the folders a and b may be the identity; give a pattern (--pattern) such as "
        '"{pid}/{cam}/*"',
    ),
    *(
        (
            [name],
            {},
            f"ROOT/{name} does not begin like 0001_c2_; give a pattern (--pattern) such as "
            '"{pid}_{cam}_*", put each person into a folder of their own, or read images of unknown people by '
            "kind: images",
        )
        for name in ("x.jpg", "0001_c1x.jpg")
    ),
    (
        ["gallery/cam01/person01_cam01_x.jpg", "query/cam02/person01_cam02_x.jpg"],
        {},
        "cam01 in ROOT/gallery/cam01/person01_cam01_x.jpg looks like a camera, and neither a folder nor the file name "
        'says who is shown; give a pattern (--pattern), such as "{cam}/{pid}_*", or "{pid}/*" where each folder is '
        "one identity",
    ),
    (
        ["fold1/a.jpg", "fold_2/b.jpg", "extra_test/c.jpg"],
        {},
        "the folders of ROOT (extra_test, fold1, fold_2) look like parts of a data set, not like identities; give a "
        'pattern (--pattern), such as "*/{pid}_{cam}_*", or "{pid}/*" where each folder is one '
        "identity",
    ),
    (
        ["holiday/a.jpg", "holiday/b.jpg"],
        {},
        "all 2 images of ROOT are taken for one identity (holiday), so nothing can be searched; where they show "
        'several, give a pattern (--pattern) such as "{pid}_*"',
    ),
    (["query/x.jpg"], {"pattern": "{pid}_*"}, "query/x.jpg does not fit the pattern '{pid}_*'"),
    (["x.jpg"], {"pattern": "{pid}/{cam}/*"}, "no image 2 levels below ROOT, where the pattern '{pid}/{cam}/*' looks"),
    (["a/x.jpg"], {"pattern": "{pid}"}, "no image directly in ROOT, where the pattern '{pid}' looks"),
    (["x.jpg"], {"pattern": "{pid}/*"}, "no image 1 level below ROOT, where the pattern '{pid}/*' looks"),
    (
        [],
        {},
        "no image in ROOT; expected folders train, query and gallery, one folder per person, or images named like "
        "0001_c2_000151.jpg",
    ),
]


@pytest.mark.parametrize(("files", "settings", "sentence"), MISTAKES)
def test_mistakes(tmp_path, make_images, files, settings, sentence):
    make_images(tmp_path, files)
    with pytest.raises(UserError) as caught:
        read(tmp_path, **settings)
    assert str(caught.value) == "folder: " + sentence.replace("ROOT", str(tmp_path))


def test_no_folder(tmp_path):
    with pytest.raises(
        UserError, match=r"^folder: .*gone does not exist; expected folders train, query and gallery, one "
    ):
        read(tmp_path / "gone")


@pytest.mark.parametrize("share", [-0.1, 1.1, "0.5", True])
def test_share_is_between_0_and_1(share):
    with pytest.raises(ValidationError):
        Folder(root="x", test_share=share)
