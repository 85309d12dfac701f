"""The address of a gallery in a database, read so that no message ever holds a part of its password."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote, unquote

from passerby.errors import UserError

FORM = "postgresql://USER:PASSWORD@HOST:PORT/DATABASE?gallery=NAME"
DEFAULT_NAME = "gallery"
NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
"""Names of galleries, which are names of tables too."""

SHOWN = ("host", "port", "sslmode")
"""Options of an address that messages repeat."""


@dataclass(frozen=True)
class Address:
    """Address of a gallery.

    Attributes:
        options: of the connection, by the names that libpq gives them.
        name: of the gallery in its database.
        place: the address without password, for messages.

    """

    options: dict[str, str]
    name: str
    place: str

    def __repr__(self) -> str:
        return f"Address({self.place!r})"

    def without_password(self, text: str) -> str:
        """Return a text in which the password, if there is one, is replaced."""
        secrets = [self.options[name] for name in ("password", "sslpassword") if self.options.get(name)]
        for secret in secrets:
            text = text.replace(secret, "***")
        return text


def read_address(text: str) -> Address:
    """Read `postgresql://USER:PASSWORD@HOST:PORT/DATABASE?gallery=NAME`; each part may be left out.

    Parts that are left out come from the environment (PGHOST, PGPASSWORD, ...), from `~/.pgpass`, or are the
    defaults of libpq. Other options of libpq may follow, such as `sslmode=require`.

    >>> read_address("postgresql://me:secret@localhost/people?gallery=plaza").place
    'postgresql://me@localhost/people?gallery=plaza'

    Raises:
        UserError: another form, or a name that no gallery can have; the message repeats nothing that may be secret.

    """
    scheme, _, rest = text.partition("://")
    rest, _, query = rest.partition("?")
    authority, _, database = rest.partition("/")
    login, _, hosts = authority.rpartition("@")
    user, _, password = login.partition(":")
    if scheme not in ("postgresql", "postgres") or any(mark in part for part in (database, query) for mark in "@/#"):
        raise _unreadable()
    host, port = _read_hosts(hosts)
    parts = {"host": host, "port": port, "dbname": database, "user": user, "password": password}
    options = {name: unquote(value) for name, value in parts.items() if value}
    extra = dict(_read_query(query))
    name = extra.pop("gallery", DEFAULT_NAME)
    if not NAME.fullmatch(name):
        raise UserError(
            "the name of a gallery in a database is a letter and up to 39 more of a-z, 0-9 and _, as in ?gallery=plaza"
        )
    options |= extra
    shown = [f"{key}={quote(options[key], safe='/,')}" for key in SHOWN if key in extra]
    shown += [f"gallery={name}"] if name != DEFAULT_NAME else []
    place = f"postgresql://{user}{'@' if user else ''}{hosts}/{database}{'?' if shown else ''}{'&'.join(shown)}"
    return Address(options, name, place)


def _read_hosts(hosts: str) -> tuple[str, str]:
    """Return hosts and ports as libpq takes them: `a,b` and `5432,5433`."""
    names, ports = [], []
    for each in hosts.split(","):
        match = re.fullmatch(r"(\[[0-9a-fA-F:.%]+\]|[^:\[\]]*)(?::(\d*))?", each)
        if match is None:
            raise _unreadable()
        names.append(match[1].strip("[]"))
        ports.append(match[2] or "")
    return ",".join(names).strip(","), ",".join(ports).strip(",")


def _read_query(query: str) -> list[tuple[str, str]]:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError:
        raise _unreadable() from None
    if any(not re.fullmatch("[a-z_0-9]+", key) for key, _ in pairs):
        raise _unreadable()
    return pairs


def _unreadable() -> UserError:
    return UserError(
        f"the address of the gallery is not of the form {FORM}; special characters of a user name, a password or a "
        "folder are written as %40 for @, %2F for /, %3A for :, %3F for ? and %23 for #"
    )
