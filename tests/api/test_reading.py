"""A data set is read by its folder alone, or as it is described."""

import pytest

import passerby


def test_a_data_set_is_read_as_described(site, masks):
    dataset = passerby.read_dataset(site.parent, kind="market1501", name="lobby", masks=masks)
    assert (dataset.name, len(dataset.train), len(dataset.query)) == ("lobby", 48, 8)
    assert (dataset.train.masks != "").all()


def test_an_unknown_kind_is_refused(site):
    with pytest.raises(passerby.UserError, match="did you mean 'market1501'"):
        passerby.read_dataset(site, kind="market")
