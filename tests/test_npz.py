"""Arrays of any origin: only plain ones, and never gigabytes out of a small file."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest

from passerby import npz
from passerby.errors import UserError
from passerby.npz import read_npz
from passerby.types import Embeddings

GOOD = {"vectors": np.eye(3, dtype=np.float32), "pid": [1, 2, 3], "cam": [0, 0, 1], "role": ["query", "gallery", ""]}


def test_a_small_file_that_unpacks_to_very_much_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(npz, "ALWAYS_FINE", 1 << 20)
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("vectors.npy", "w") as entry:
        for _ in range(8):
            entry.write(bytes(1 << 20))
    monkeypatch.setattr(np, "load", lambda *_, **__: pytest.fail("it was read"))
    with pytest.raises(UserError, match=r"bomb\.npz would unpack from 0\.0 MB to 8 MB"):
        Embeddings.load(path)


def test_compressed_vectors_are_read(tmp_path):
    np.savez_compressed(tmp_path / "x.npz", **GOOD)
    assert len(Embeddings.load(tmp_path / "x.npz")) == 3


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("role", np.array([b"query", b"\xff", b""]), "column 'role' cannot be read as str"),
        ("path", np.array([b"a", b"\xff", b""]), "column 'path' cannot be read as str"),
        ("flip", np.array([True, False]), "'flip' must be one value"),
        ("dataset", np.array([]), "'dataset' must be one value"),
        ("input_mask", np.array([["a"]]), "input_mask is 'a', allowed: none"),
        ("role", np.array([object()] * 3), "not a readable .npz of plain arrays"),
        ("vectors", np.zeros((3, 2), dtype="M8[s]"), "'vectors' must be a float array"),
        ("cam", np.array(["1", "2", "3"]), "column 'cam' must hold whole numbers"),
    ],
)
def test_values_that_do_not_fit_are_told_with_the_name_of_the_file(tmp_path, name, value, told):
    np.savez(tmp_path / "x.npz", **(GOOD | {name: value}))
    with pytest.raises(UserError, match=rf"x\.npz.*{told}"):
        Embeddings.load(tmp_path / "x.npz")


def test_a_header_that_promises_more_than_there_is_is_refused(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (1 << 40, 1 << 10)})
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("vectors.npy", header.getvalue() + bytes(64))
    with pytest.raises(UserError, match=r"x\.npz (is not|does not fit)"):
        read_npz(tmp_path / "x.npz", kind="fine")


def test_names_that_are_not_text_have_a_fingerprint(tmp_path):
    table = Embeddings(**GOOD, path=["a", "J\udcf6rg", "\ud800"])
    assert len(table.fingerprint) == 16


def test_the_former_name_of_the_input_mask_is_read(tmp_path):
    for former, present in (("whole", "none"), ("weighted", "weighted")):
        np.savez(tmp_path / "x.npz", **GOOD, pixels=np.str_(former))
        assert Embeddings.load(tmp_path / "x.npz").input_mask == present
