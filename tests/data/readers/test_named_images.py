from hypothesis import given
from hypothesis import strategies as st

from passerby.data.readers.named_images import NamedImage, NamedSplits, name_notes, number_names, number_shots


def test_numbers_keep_their_value():
    assert number_names(["0007", "12", "-1", ""]) == {"0007": 7, "12": 12, "": -1, "-1": -1}


def test_words_are_numbered_in_sorted_order():
    assert number_names(["ben", "anna", "7"]) == {"7": 0, "anna": 1, "ben": 2, "": -1, "-1": -1}


def test_two_spellings_of_a_number_are_two_people():
    assert number_names(["1", "01"]) == {"01": 0, "1": 1, "": -1, "-1": -1}


def test_numbers_that_fit_no_column_are_words():
    assert number_names(["9" * 18, "1"])["9" * 18] == 10**18 - 1
    assert number_names(["9" * 19, "1"]) == {"1": 0, "9" * 19: 1, "": -1, "-1": -1}


@given(st.lists(st.text(alphabet="0129-²a", max_size=3)))
def test_different_words_never_share_a_number(words):
    numbers = number_names(words)
    known = {word for word in words if word not in ("", "-1")}
    assert len({numbers[word] for word in known}) == len(known)
    assert all(numbers[word] >= 0 for word in known)


def test_a_word_is_the_same_number_in_every_split():
    shots = [NamedImage("a", "anna", "door"), NamedImage("b", "ben", "hall", 5), NamedImage("c", "anna", "hall")]
    train, query, gallery = number_shots(NamedSplits(shots[:1], shots[1:2], shots[2:]))
    assert [(shot.pid, shot.cam, shot.frame) for shot in (*train, *query, *gallery)] == [
        (0, 0, None),
        (1, 1, 5),
        (0, 1, None),
    ]


def test_notes_tell_how_words_were_numbered():
    splits = NamedSplits([NamedImage("a", "anna", "1"), NamedImage("b", "ben", "2")], [], [])
    assert name_notes(splits) == ("The identities are words and are numbered in sorted order: anna = 0, ben = 1.",)


def test_notes_tell_what_is_unknown():
    assert name_notes(NamedSplits([NamedImage("a", "", "")], [], [])) == (
        "No identity is known, so only training without labels is possible.",
        "No camera is known: an evaluation counts matches from the query's own camera.",
    )
