"""Site, date and time out of the names that recorders give their files.

Understood (AudioMoth, Song Meter, BirdCLEF): `SITE_YYYYMMDD_HHMMSS`, `YYYYMMDD_HHMMSS`,
`SITE_YYYYMMDD_HHMM`, `ID_SITE_YYYYMMDD` (BirdCLEF 2021),
`BC2026_Train_ID_SITE_YYYYMMDD_HHMMSS`, each with `_`, `-`, `T` or `$` between day and time and
with anything after an underscore behind it (`SM4_20230420_074000_L`).
The clock of a recorder is often UTC and the name does not say: the time is kept as written.
"""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass

_NUMBERED = re.compile(r"(?:\d+|BC\d{4}_(?:Train|Test)_\d+)_(.+)", re.DOTALL | re.ASCII)
"""A number of the recording before the site (BirdCLEF 2021 and 2026)."""

_STAMP = re.compile(
    r"(?:(?P<site>.+?)[_-])?"
    r"(?P<day>(?:19|20)\d{6})"
    r"(?:[_\-T$](?P<clock>\d{6}|\d{4})(?P<utc>[Zz])?)?"
    r"(?:[_.\-(T].*)?",
    re.DOTALL | re.ASCII,
)


@dataclass(frozen=True, slots=True)
class NameFacts:
    """What a name says.

    Attributes:
        site: recorder or site, None if the name has none.
        date: day, None if the name has none.
        time: start as the recorder's clock had it, None if the name has none.
        malformed: True if there are digits in the place of a date and time, but no such
            day or time exists.
    """

    site: str | None = None
    date: dt.date | None = None
    time: dt.time | None = None
    malformed: bool = False


def parse_soundscape_name(stem: str) -> NameFacts:
    """Read a file name without its extension; a name without a date gives no facts."""
    match = _STAMP.fullmatch(stem)
    if match is None:
        return NameFacts()
    site = match["site"] or None
    numbered = _NUMBERED.fullmatch(site or "")
    if numbered is not None:
        site = numbered[1]
    clock = match["clock"]
    try:
        date = dt.datetime.strptime(match["day"], "%Y%m%d").date()  # noqa: DTZ007 - only the day
        time = None
        if clock is not None:
            seconds = int(clock[4:6] or 0)
            time = dt.time(int(clock[:2]), int(clock[2:4]), seconds)
    except ValueError:
        # Eight digits alone may be any number; with a clock behind them they mean a date.
        return NameFacts() if clock is None else NameFacts(site=site, malformed=True)
    return NameFacts(site=site, date=date, time=time)
