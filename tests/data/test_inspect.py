import io

import pytest
from PIL import Image

from passerby.data.inspect import inspect_file


def picture(kind, mode="RGB", size=(30, 50)):
    out = io.BytesIO()
    Image.effect_noise(size, 50).convert(mode).save(out, kind)
    return out.getvalue()


@pytest.mark.parametrize("decode", [True, False])
@pytest.mark.parametrize(
    ("kind", "mode"), [("JPEG", "RGB"), ("JPEG", "L"), ("JPEG", "CMYK"), ("PNG", "P"), ("BMP", "RGB"), ("WEBP", "RGB")]
)
def test_good_files(tmp_path, kind, mode, decode):
    path = tmp_path / "x.jpg"
    path.write_bytes(picture(kind, mode))
    found = inspect_file(str(path), decode=decode)
    assert (found.path, found.fault, found.width, found.height) == (str(path), "", 30, 50)
    assert len(found.digest) == 16


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "WEBP"])
def test_cut_files_are_found_by_decoding(tmp_path, kind):
    path = tmp_path / "x.jpg"
    content = picture(kind)
    path.write_bytes(content[: len(content) // 2])
    assert inspect_file(str(path)).fault.startswith("is damaged (")


def test_reading_headers_only_does_not_find_cut_files(tmp_path):
    path = tmp_path / "x.jpg"
    content = picture("JPEG")
    path.write_bytes(content[:-200])
    assert inspect_file(str(path), decode=False).fault == ""
    assert inspect_file(str(path)).fault != ""


@pytest.mark.parametrize("decode", [True, False])
def test_other_faults(tmp_path, decode):
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("not a picture")
    faults = [
        inspect_file(str(tmp_path / name), decode=decode).fault for name in ("gone.jpg", "empty.jpg", "text.jpg", "")
    ]
    assert faults == ["is missing", "is empty", "is not an image", "cannot be opened (is a directory)"]


def test_equal_content_has_equal_digests(tmp_path):
    for name, size in (("a", (30, 50)), ("b", (30, 50)), ("c", (30, 51))):
        out = io.BytesIO()
        Image.new("RGB", size).save(out, "PNG")
        (tmp_path / name).write_bytes(out.getvalue())
    a, b, c = (inspect_file(str(tmp_path / name)).digest for name in "abc")
    assert a == b != c
