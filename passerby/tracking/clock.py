"""The time at which a clip begins, as a person writes it."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from passerby.errors import UserError

_OF_DAY = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2}(?:\.\d+)?))?", re.ASCII)


def read_start(text: str, *, option: str = "--start") -> float:
    """Return the seconds of a time: a number, a time of day, or an ISO 8601 date and time.

    A date is in seconds since 1970, in UTC where it has no zone; all cameras need the same form.

    Args:
        text: as written.
        option: by which it was given, for the message.

    >>> read_start("12.5"), read_start("08:30"), read_start("1970-01-02T00:00:01+00:00")
    (12.5, 30600.0, 86401.0)

    Raises:
        UserError: none of these.

    """
    match = _OF_DAY.fullmatch(text.strip())
    if match and int(match[1]) < 24 and int(match[2]) < 60 and float(match[3] or 0) < 60:
        return 3600.0 * int(match[1]) + 60.0 * int(match[2]) + float(match[3] or 0)
    try:
        seconds = float(text)
        if abs(seconds) < 1e12:
            return seconds
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise UserError(
            f"{option} {text!r} is no time; give seconds, HH:MM:SS or a date such as 2026-03-01T08:30:00"
        ) from error
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
