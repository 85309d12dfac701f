import pytest
from hypothesis import given
from hypothesis import strategies as st

from passerby.data.readers.hash_split import choose_queries, choose_test, split_by_hash, split_note
from passerby.data.readers.named_images import NamedImage


def shots_of(*cams: str, pid: str = "p") -> list[NamedImage]:
    return [NamedImage(f"{pid}{number}", pid, cam) for number, cam in enumerate(cams)]


def test_test_identities_do_not_depend_on_order_or_run():
    names = [f"person{number}" for number in range(10)]
    chosen = choose_test(names, 0.3)
    assert chosen == choose_test(reversed(names), 0.3)
    assert sorted(chosen) == ["person1", "person2", "person3"]


@pytest.mark.parametrize(("share", "count"), [(0.0, 0), (0.5, 3), (0.1, 1), (1.0, 5)])
def test_share_is_met_to_the_nearest_identity(share, count):
    assert len(choose_test("abcde", share)) == count


@pytest.mark.parametrize(
    ("cams", "queries"),
    [
        ("1", [False]),
        ("11", [True, False]),
        ("12", [True, False]),
        ("1122", [True, False, True, False]),
        ("1112", [True, False, False, False]),
        ("123", [True, False, False]),
        ("2121", [True, True, False, False]),
    ],
)
def test_one_query_per_camera_that_can_spare_it(cams, queries):
    assert choose_queries(shots_of(*cams)) == queries


people = st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("123")), max_size=25)


@given(people, st.floats(0, 1))
def test_division_loses_nothing_and_leaks_nobody(people, share):
    shots = [NamedImage(str(number), pid, cam) for number, (pid, cam) in enumerate(people)]
    splits = split_by_hash(shots, share)
    assert sorted(splits.all, key=lambda shot: int(shot.path)) == shots
    tested = {shot.pid for shot in (*splits.query, *splits.gallery)}
    assert not tested & {shot.pid for shot in splits.train}
    for split in (splits.train, splits.query, splits.gallery):
        assert split == sorted(split, key=lambda shot: int(shot.path))


@given(people)
def test_every_query_of_a_person_with_two_cameras_finds_another_camera(people):
    splits = split_by_hash([NamedImage(str(number), pid, cam) for number, (pid, cam) in enumerate(people)], 1.0)
    for query in splits.query:
        cams = {shot.cam for shot in splits.all if shot.pid == query.pid}
        matches = [shot for shot in splits.gallery if shot.pid == query.pid]
        assert matches
        assert len(cams) == 1 or any(shot.cam != query.cam for shot in matches)


def test_unknown_identities_train():
    shots = [NamedImage("a", "", "1"), NamedImage("b", "-1", "1"), NamedImage("c", "x", "1")]
    splits = split_by_hash(shots, 1.0)
    assert (splits.train, splits.gallery) == (shots[:2], shots[2:])


def test_the_division_is_told():
    assert split_note(split_by_hash([*shots_of("1", "2", pid="a"), *shots_of("1", pid="b")], 0.5)) == (
        "The data set has no split; identities for training: 1, for testing: 1 (drawn by a hash of "
        "their names, always alike); one image per test identity and camera is a query.",
    )
    assert split_note(split_by_hash([NamedImage("a", "", "1")], 0.5)) == ()
