import pytest

from passerby.errors import UserError
from passerby.gallery.postgres.address import read_address


def test_parts_of_an_address():
    address = read_address(
        "postgresql://anna%40x:pa%2Fss%3A@one:5433,[::1]:5434/people%20here?gallery=plaza_2&sslmode=require"
    )
    assert address.name == "plaza_2"
    assert address.options == {
        "host": "one,::1", "port": "5433,5434", "dbname": "people here", "user": "anna@x", "password": "pa/ss:",
        "sslmode": "require",
    }  # fmt: skip
    assert address.place == "postgresql://anna%40x@one:5433,[::1]:5434/people%20here?sslmode=require&gallery=plaza_2"


def test_parts_that_are_left_out_come_from_elsewhere():
    address = read_address("postgresql://")
    assert (address.options, address.name, address.place) == ({}, "gallery", "postgresql:///")
    address = read_address("postgres:///people?host=%2Fvar%2Frun")
    assert address.options == {"dbname": "people", "host": "/var/run"}
    assert address.place == "postgresql:///people?host=/var/run"


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://anna:SECRET/x@host/people",  # a password that is not encoded
        "postgresql://anna:12/SECRET@host/people",
        "postgresql://anna:SECRET?x@host/people",
        "postgresql://anna:12?SECRET@host/people",
        "postgresql://anna:SECRET@host:port/people",
        "postgresql://anna:SECRET@host/people?gallery",
        "postgresql://anna:SECRET@host/people?gallery=../x",
        "postgresql://anna:SECRET@host/people?gallery=Plaza",
        "postgresql://anna:SECRET@host/people?a%20b=c",
        "mysql://anna:SECRET@host/people",
    ],
)
def test_an_address_that_is_wrong_is_not_repeated(text):
    with pytest.raises(UserError) as error:
        read_address(text)
    assert "SECRET" not in str(error.value)
    assert "postgresql://USER:PASSWORD@HOST" in str(error.value) or "?gallery=plaza" in str(error.value)


def test_the_password_is_in_no_text_of_an_address():
    address = read_address("postgresql://anna:SECRET@host/people?sslpassword=HIDDEN")
    assert "SECRET" not in f"{address!r} {address.place}"
    assert "HIDDEN" not in f"{address!r} {address.place}"
    assert address.without_password("no SECRET, nothing HIDDEN") == "no ***, nothing ***"
