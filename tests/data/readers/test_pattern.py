import contextlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from passerby.data.readers.pattern import compile_pattern
from passerby.errors import UserError


@pytest.mark.parametrize(
    ("text", "path", "fields"),
    [
        ("{pid}_{cam}_{frame}", "anna_hall_0012.jpg", {"pid": "anna", "cam": "hall", "frame": "0012"}),
        ("{pid}_c{cam}s*_{frame}_*", "0865_c3s4_046556_03.jpg", {"pid": "0865", "cam": "3", "frame": "046556"}),
        ("{pid}_c{cam}_f{frame}", "0715_c7_f0205446.jpg", {"pid": "0715", "cam": "7", "frame": "0205446"}),
        ("{pid}/{cam}/*", "anna b/cam-2/x y.z.png", {"pid": "anna b", "cam": "cam-2"}),
        ("cam{cam}/{pid}_*.jpg", "cam2/anna_x_y.jpg", {"cam": "2", "pid": "anna"}),
        ("*_{cam}", "a_b_c2.png", {"cam": "c2"}),
        ("{pid}.*", "anna.jpg", {"pid": "anna"}),
        ("{pid}_(x+)[1]", "-1_(x+)[1].jpg", {"pid": "-1"}),
        ("*_x_{pid}_*_{cam}", "a_x_b_x_anna_c_d_2.jpg", {"pid": "b", "cam": "2"}),
        ("*", "anything at all.jpg", {}),
    ],
)
def test_matches(text, path, fields):
    assert compile_pattern(text).match(path) == fields


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("{pid}_{cam}", "anna_lena_c1.jpg"),
        ("{pid}_{cam}", "anna.jpg"),
        ("{pid}_{cam}", "_c1.jpg"),
        ("{pid}_{frame}", "anna_x.jpg"),
        ("{pid}_{frame}", "anna_².jpg"),
        ("{pid}/*", "anna.jpg"),
        ("{pid}", "anna/x.jpg"),
        ("{pid}_x.y", "anna_xzy.jpg"),
    ],
)
def test_does_not_match(text, path):
    assert compile_pattern(text).match(path) is None


def test_depth_is_the_number_of_folders():
    assert [compile_pattern(text).depth for text in ("{pid}", "{pid}/*", "{pid}/{cam}/*")] == [0, 1, 2]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{pdi}_*", "'{pdi}_*': {pdi} is not known; allowed are {pid}, {cam}, {frame} and *; did you mean 'pid'?"),
        ("{}_*", "'{}_*': {} is not known; allowed are {pid}, {cam}, {frame} and *"),
        ("{pid}_{pid}", "'{pid}_{pid}': a field stands in it twice"),
        ("{pid_{cam}", "'{pid_{cam}': a brace is not closed or not opened"),
        ("pid}_x", "'pid}_x': a brace is not closed or not opened"),
        ("{pid}{cam}", "'{pid}{cam}': two fields or * stand side by side, so the end of the first is ambiguous"),
        ("{pid}*", "'{pid}*': two fields or * stand side by side, so the end of the first is ambiguous"),
        ("", "'': it is empty"),
        (".jpg", "'.jpg': it is empty"),
    ],
)
def test_refusals(text, sentence):
    with pytest.raises(UserError) as caught:
        compile_pattern(text)
    assert str(caught.value) == f"pattern {sentence}"


@given(st.text(alphabet="{}*/_-.[](\\+^$ pidcamfre019", max_size=25), st.text(max_size=20))
def test_any_text_is_a_pattern_or_a_clear_error(text, path):
    with contextlib.suppress(UserError):
        compile_pattern(text).match(path)


word = st.text(alphabet="abcxyz0189.é", min_size=1, max_size=6)


@given(word, word, st.integers(0, 10**6), st.permutations(["{pid}", "{cam}", "{frame}"]), st.sampled_from("_-/ +["))
def test_reads_back_what_was_written(pid, cam, frame, order, separator):
    text = separator.join(order)
    path = text.replace("{pid}", pid).replace("{cam}", cam).replace("{frame}", str(frame)) + ".png"
    assert compile_pattern(text).match(path) == {"pid": pid, "cam": cam, "frame": str(frame)}


def test_hostile_names_are_answered_at_once():
    assert compile_pattern("*a*a*a*a*a{pid}a{cam}b").match("a" * 250 + ".jpg") is None


@given(
    st.sampled_from(["*_{pid}", "{pid}a*b", "a{pid}_*_{cam}b", "*a{pid}b*", "*a*b{frame}d*c", "{cam}a{pid}b*a{frame}"]),
    st.text(alphabet="ab_1cd", max_size=12),
)
def test_refusing_to_go_back_misses_no_match(text, path):
    regex = compile_pattern(text).regex.pattern
    assert "(?>" in regex
    assert (re.fullmatch(regex, path) is None) == (re.fullmatch(regex.replace("(?>", "(?:"), path) is None)
