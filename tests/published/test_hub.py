"""Addresses of the Hugging Face Hub."""

import sys
import types
from pathlib import Path

import pytest

from passerby.errors import UserError
from passerby.published.hub import local_file


def test_a_path_stays_a_path():
    assert local_file("runs/a.pth") == Path("runs/a.pth")


@pytest.mark.parametrize("address", ["hf://owner/name/dir/a.pth", Path("hf://owner/name/dir/a.pth")])
def test_an_address_is_fetched(monkeypatch, address):
    fetched = types.SimpleNamespace(hf_hub_download=lambda repository, file: f"/cache/{repository}/{file}")
    monkeypatch.setitem(sys.modules, "huggingface_hub", fetched)
    assert local_file(address) == Path("/cache/owner/name/dir/a.pth")


def test_what_cannot_be_fetched_says_where_it_is(monkeypatch):
    def fail(repository, file):
        raise ConnectionError("no route\nmore")

    monkeypatch.setitem(sys.modules, "huggingface_hub", types.SimpleNamespace(hf_hub_download=fail))
    with pytest.raises(
        UserError, match=r"cannot be fetched \(no route\); download https://huggingface.co/o/n/resolve/main"
    ):
        local_file("hf://o/n/a.pth")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match=r"pip install 'passerby\[hub\]'"):
        local_file("hf://o/n/a.pth")
    with pytest.raises(UserError, match="write hf://OWNER/NAME/FILE"):
        local_file("hf://o/n")
