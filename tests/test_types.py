"""The tables: columns that fit, embeddings that survive the disk, protocols that refuse unlike scores."""

import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from passerby.errors import UserError
from passerby.types import Dataset, Embeddings, Protocol, Rerank, Scores, Split, Stage


def split(count=4, **columns):
    return Split(
        **{"path": [f"{i}.jpg" for i in range(count)], "pid": np.arange(count) - 1, "cam": np.zeros(count, int)}
        | columns
    )


def embeddings(count=4, **columns):
    standard = {
        "vectors": np.arange(count * 2, dtype=np.float32).reshape(count, 2),
        "pid": np.arange(count),
        "cam": np.arange(count) % 2,
        "role": np.array(["query", "gallery", "", "gallery"] * count)[:count],
        "path": np.array([f"folder/{i}.jpg" for i in range(count)]),
    }
    return Embeddings(**standard | columns)


def test_columns_are_brought_to_one_type():
    table = split(pid=np.array([1, 2, 3, 4], np.int32), path=[Path("a"), Path("b"), Path("c"), Path("d")])
    assert table.pid.dtype == np.int64
    assert table.path.tolist() == ["a", "b", "c", "d"]
    assert len(Split.empty()) == 0
    assert Split.empty().pid.dtype == np.int64


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"pid": [1, 2, 3]}, r"column 'pid' has shape \(3,\), expected \(4,\)"),
        ({"pid": [1.0, 2.0, 3.0, 4.0]}, "column 'pid' must hold whole numbers, got float64"),
        ({"cam": ["1", "2", "3", "4"]}, "column 'cam' must hold whole numbers"),
        (
            {"pid": np.array([1, 2, 3, 2**64 - 1], dtype=np.uint64)},
            "'pid' holds 18446744073709551615; the largest whole",
        ),
        (
            {"cam": np.full(4, 2**63, dtype=np.uint64)},
            "column 'cam' holds 9223372036854775808; the largest whole number is 92233720368",
        ),
        ({"frame": [[1], [2], [3], [4]]}, r"column 'frame' has shape \(4, 1\)"),
        ({"mask_path": ["a"]}, "column 'mask_path' has shape"),
        ({"pid": [True, False, True, False]}, "column 'pid' must hold whole numbers, got bool"),
    ],
)
def test_a_column_that_does_not_fit_is_refused(columns, told):
    with pytest.raises(UserError, match=told):
        split(**columns)


def test_select_takes_masks_and_indices_of_every_column():
    table = split(frame=[10, 11, 12, 13])
    assert table.select(table.pid >= 1).frame.tolist() == [12, 13]
    chosen = table.select(np.array([2, 0, 2]))
    assert chosen.path.tolist() == ["2.jpg", "0.jpg", "2.jpg"]
    assert chosen.frame.tolist() == [12, 10, 12]
    assert chosen.mask_path is None
    assert table.count_identities == 3
    assert table.count_cameras == 1
    assert len(table.select(np.zeros(4, bool))) == 0


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        (
            {"vectors": np.zeros(4, np.float32)},
            r"'vectors' must be a float array of shape \(N, D\), got float32 \(4,\)",
        ),
        ({"vectors": np.zeros((4, 2), int)}, "'vectors' must be a float array"),
        ({"vectors": np.full((4, 2), np.nan, np.float32)}, "4 of 4 vectors hold NaN or infinity"),
        ({"vectors": np.full((4, 2), 1e300)}, "4 of 4 vectors hold NaN or infinity"),
        ({"role": ["query", "gallery", "quary", ""]}, "role 'quary' is not known; allowed: 'query', 'gallery'"),
        ({"pid": [1]}, "column 'pid'"),
        ({"path": ["a"]}, "column 'path'"),
    ],
)
def test_embeddings_that_do_not_fit_are_refused(columns, told):
    with pytest.raises(UserError, match=told):
        embeddings(**columns)


def same(one, other):
    for name in ("vectors", "pid", "cam", "role", "path"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    return (one.dataset, one.feature) == (other.dataset, other.feature)


@given(
    hnp.arrays(np.float32, st.tuples(st.integers(0, 5), st.integers(1, 3)), elements=st.floats(-9, 9, width=32)),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=5),
    st.booleans(),
)
def test_embeddings_survive_the_disk(tmp_path_factory, vectors, name, with_path):
    count = len(vectors)
    path = np.array([f"ä{i}" for i in range(count)], np.str_) if with_path else None
    table = embeddings(count, vectors=vectors, path=path, dataset=name, feature="after_neck", flip=with_path)
    file = tmp_path_factory.mktemp("npz") / "e.npz"
    table.save(file)
    assert same(Embeddings.load(file), table)


def test_a_file_from_before_flip_averaging_is_read(tmp_path):
    embeddings(flip=True).save(tmp_path / "e.npz")
    with np.load(tmp_path / "e.npz") as archive:
        columns = {name: archive[name] for name in archive.files if name != "flip"}
    np.savez(tmp_path / "old.npz", **columns)
    assert Embeddings.load(tmp_path / "e.npz").flip is True
    assert Embeddings.load(tmp_path / "old.npz").flip is False


@pytest.mark.parametrize(("stamp", "name"), [("feature", "before_neck"), ("embedding", "after_neck"), ("", "")])
def test_a_file_with_a_former_name_of_a_vector_is_read(tmp_path, stamp, name):
    embeddings(feature=stamp).save(tmp_path / "old.npz")
    assert Embeddings.load(tmp_path / "old.npz").feature == name


def test_roles_divide_the_rows():
    table = embeddings()
    assert table.query.pid.tolist() == [0]
    assert table.gallery.pid.tolist() == [1, 3]


@pytest.mark.parametrize("key", ["vectors", "pid", "cam", "role"])
def test_a_missing_key_is_told(tmp_path, key):
    table = embeddings()
    columns = {name: getattr(table, name) for name in ("vectors", "pid", "cam", "role") if name != key}
    np.savez(tmp_path / "e.npz", **columns)
    with pytest.raises(UserError, match=rf"e\.npz lacks {key}; it holds {', '.join(sorted(columns))}"):
        Embeddings.load(tmp_path / "e.npz")


class Bomb:
    def __reduce__(self):
        return (Path.touch, (Path("exploded"),))


def write_nothing(path):
    path.touch()


def write_text(path):
    path.write_text("vectors, pid, cam")


def write_pickle(path):
    import pickle

    path.write_bytes(pickle.dumps(Bomb()))


def write_object_array(path):
    table = embeddings()
    np.savez(path, vectors=table.vectors, pid=np.array([Bomb()] * 4, object), cam=table.cam, role=table.role)


def write_single_array(path):
    with path.open("wb") as file:
        np.save(file, np.zeros(3))


def write_cut(path):
    embeddings(1000).save(path)
    path.write_bytes(path.read_bytes()[:-200])


def write_damaged(path):
    table = embeddings(1000)
    np.savez_compressed(path, vectors=table.vectors, pid=table.pid, cam=table.cam, role=table.role)
    content = bytearray(path.read_bytes())
    content[200:260] = bytes(60)
    path.write_bytes(content)


def write_foreign_zip(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("vectors.npy", b"\x93NUMPY\x01\x00\x10\x00{'descr': broken")


@pytest.mark.parametrize(
    "write",
    [
        write_nothing, write_text, write_pickle, write_object_array, write_single_array, write_cut, write_damaged,
        write_foreign_zip,
    ],
)  # fmt: skip
def test_a_file_that_is_not_ours_is_a_sentence_and_runs_nothing(tmp_path, monkeypatch, write):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "e.npz"
    write(path)
    with pytest.raises(UserError, match=r"e\.npz is (not a readable \.npz of plain arrays|no \.npz file)") as caught:
        Embeddings.load(path)
    assert "\n" not in str(caught.value)
    assert not Path("exploded").exists()


def test_wrong_columns_in_a_file_name_the_file(tmp_path):
    table = embeddings()
    np.savez(tmp_path / "e.npz", vectors=table.vectors, pid=table.pid[:2], cam=table.cam, role=table.role)
    with pytest.raises(UserError, match=r"e\.npz: column 'pid' has shape"):
        Embeddings.load(tmp_path / "e.npz")
    with pytest.raises(UserError, match="no embeddings file"):
        Embeddings.load(tmp_path / "other.npz")


def test_the_fingerprint_tells_which_images_are_compared():
    table = embeddings()
    moved = replace(table, path=np.array([f"elsewhere/{i}.jpg" for i in range(4)]))
    other_vectors = replace(table, vectors=table.vectors + 1)
    assert table.fingerprint == moved.fingerprint == other_vectors.fingerprint
    changes = [
        {"pid": np.array([0, 1, 2, 4])},
        {"cam": np.array([0, 1, 1, 1])},
        {"role": np.array(["query"] * 4)},
        {"path": np.array([f"folder/x{i}.jpg" for i in range(4)])},
    ]
    prints = {replace(table, **change).fingerprint for change in changes}
    assert len(prints | {table.fingerprint}) == 5
    assert table.select(np.array([1, 0, 2, 3])).fingerprint != table.fingerprint
    assert len(table.fingerprint) == 16


PROTOCOL = Protocol("market1501", "abc", 10, 20, "standard", "cosine", "after_neck")


@pytest.mark.parametrize(
    "change",
    [
        {"dataset": "msmt17"}, {"files": "abd"}, {"count_query": 11}, {"count_gallery": 21}, {"cameras": "ignore"},
        {"distance": "euclidean"}, {"feature": "before_neck"}, {"rerank": Rerank()}, {"ap_rule": "trapezoid"},
        {"flip": True}, {"queries": "multi"},
    ],
)  # fmt: skip
def test_unlike_protocols_are_not_compared(change):
    (name,) = change
    PROTOCOL.require_like(replace(PROTOCOL))
    PROTOCOL.require_like(replace(PROTOCOL, **change), apart_from=(name,))
    with pytest.raises(UserError, match=f"they differ in {name} "):
        PROTOCOL.require_like(replace(PROTOCOL, **change))


@pytest.mark.parametrize("values", [{"k1": 0}, {"k2": 0}, {"weight": -0.1}, {"weight": 1.1}])
def test_reranking_parameters_are_checked(values):
    with pytest.raises(UserError, match="re-ranking needs"):
        Rerank(**values)


def test_a_short_gallery_counts_as_its_full_length():
    none = np.empty(0)
    scores = Scores(0.5, 0.5, np.array([0.5, 1.0]), none, none.astype(bool), none, none, 0.1, 0.1, PROTOCOL)
    assert [scores.rank(k) for k in (1, 2, 10)] == [0.5, 1.0, 1.0]


def test_a_dataset_has_no_notes_unless_given():
    assert Dataset("x", Split.empty(), Split.empty(), Split.empty()).notes == ()


def test_a_stage_comes_from_one_data_set_unless_it_says_otherwise():
    train = Split(np.array(["a", "b"]), np.array([0, 1]), np.array([0, 0]))
    alone = Stage("here", train, labelled=True, epochs=1)
    assert (alone.sources, alone.origin.tolist()) == (("here",), [0, 0])
    assert Stage("here", train, labelled=True, epochs=1, sources=("x", "y"), origin=[1, 0]).origin.dtype == np.int64


@pytest.mark.parametrize(
    ("origin", "told"),
    [([0], r"'origin' has shape \(1,\), expected \(2,\)"), ([0, 2], r"'origin' must hold 0..1"), ([0.0, 1.0], "whole")],
)
def test_the_origin_of_a_stage_is_checked(origin, told):
    train = Split(np.array(["a", "b"]), np.array([0, 1]), np.array([0, 0]))
    with pytest.raises(UserError, match=told):
        Stage("here", train, labelled=True, epochs=1, sources=("x", "y"), origin=np.array(origin))
