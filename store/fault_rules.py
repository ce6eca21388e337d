"""The catalogue of what can be wrong with one row or one file, and the list it is kept in.

A fault of a single row or file never stops an ingestion: the row is left out (`rejected`) or
kept with the bad value set to null (`flagged`), and a row of the table of rejects says so.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

import polars as pl

from birdstack.store.errors import DatasetError
from birdstack.store.tables import REJECTS

Severity = Literal["rejected", "flagged"]

_LONGEST_VALUE = 200  # characters of a bad value that are kept


@dataclass(frozen=True, slots=True)
class FaultRule:
    """One rule that a row or file can break.

    Attributes:
        name: stable short word.
        severity: rejected (the row is out) or flagged (the row stays, its value is null).
        column: the column at fault, None for a fault of a whole row or file.
        reason: one sentence that says what is wrong.
        remedy: one imperative sentence.
    """

    name: str
    severity: Severity
    column: str | None
    reason: str
    remedy: str


_LIST_REMEDY = "write a list such as ['asbfly', 'ashpri1'], or [] for none"
_COMMA_REMEDY = "write a decimal point instead of a decimal comma"
_NUMBER_REMEDY = "write a plain number such as 12.5, or leave the cell empty"

_ROW_RULES = (
    ("ragged_row", None, "the row has another number of fields than the header",
     "quote fields that hold the delimiter, and give every row a field for each column"),
    ("missing_filename", "filename", "the filename is empty",
     "fill in the path of the recording below the audio folder"),
    ("missing_label", "primary_label", "the primary label is empty",
     "fill in the label of the recording"),
    ("label_characters", "primary_label", "a label may not hold a slash, a backslash or NUL",
     "use a plain code such as asbfly"),
    ("outside_root", "filename", "the path is absolute, climbs out of the folder or holds NUL",
     "write the path relative to the audio folder, without .. and without a drive"),
    ("backslash_path", "filename", "the path holds a backslash",
     "separate folders with / in every filename"),
    ("not_audio_name", "filename", "the name does not end like an audio file",
     "name files .ogg, .oga, .opus, .flac, .wav or .mp3"),
    ("duplicate_filename", "filename", "an earlier row names the same file",
     "keep one row for each file and put further species into secondary_labels"),
    ("malformed_secondary_labels", "secondary_labels", "the value is not a list of labels",
     _LIST_REMEDY),
    ("unknown_label", "primary_label", "the label is not in the class list",
     "correct the label or add it to the class list"),
    ("missing_file", "filename", "the audio folder has no such file",
     "copy the file there or remove the row"),
)  # fmt: skip

_FILE_RULES = (
    ("non_utf8_name", None, "the file's name is not UTF-8", "rename the file"),
    ("not_a_file", None, "it is a pipe, socket or device, not a plain file",
     "remove it or replace it by a plain file"),
    ("unreadable_file", None, "the file or folder cannot be read",
     "check its permissions and, for a link, what it points to"),
    ("changed_while_read", None, "the file changed while it was being read",
     "ingest again when nothing writes to the folder"),
    ("probe_error", None, "the audio header cannot be read", "check the file with another player"),
    ("file_without_class", None, "the file lies in no class folder",
     "move the file into a folder named after its label"),
)  # fmt: skip

_LABEL_RULES = (
    ("label_table", None, "the table of labels cannot be read",
     "save it as UTF-8 with its usual columns"),
    ("row_id_format", "row_id", "a row_id is a name, an underscore and the second it ends at",
     "write ids such as soundscape_1008115302_5"),
    ("label_times", None, "the times make no interval of seconds: 0 <= start < end",
     "write seconds such as 12.5, or 00:00:12, the end after the start"),
    ("label_beyond_end", None, "the row reaches beyond the recording's end",
     "check that the table belongs to this recording"),
    ("label_value", None, "a cell must be 1, 0 or empty", "write 1 where the class sings, else 0"),
    ("soundscape_missing", None, "no soundscape has this name",
     "copy the recording into a folder such as train_soundscapes, or correct the name"),
    ("soundscape_ambiguous", None, "several soundscapes have this name",
     "write the path of the recording below the dataset's folder"),
    ("soundscape_of_test", None, "this is a test soundscape: its labels are not read",
     "move the recording to train_soundscapes if it is not to serve as a test"),
    ("soundscape_label", None, "no class has this label or name; the stretch counts as not annotated",
     "correct it, add it to the class list, or name it in ingest.no_class"),
    ("soundscape_label_ambiguous", None, "several classes have this name",
     "write the label of the class"),
)  # fmt: skip

_FLAGS = (
    ("audio_absent", None, "the audio folder is absent: the table was read without audio",
     "give the folder that holds both the table and the audio to compute features"),
    ("delimiter", None, "the columns are not separated by commas; the table was read all the same",
     "save the table with commas"),
    ("file_without_row", None, "the file has no row in the metadata table and is left out",
     "add a row for the file or remove it"),
    ("directory_named_as_audio", None, "a folder is named like an audio file and was not entered",
     "rename the folder"),
    ("side_table", None, "the table beside the metadata cannot be used and was left aside",
     "save it as UTF-8 with commas and its usual columns"),
    ("not_a_number", None, "the value is not a number and was set to null", _NUMBER_REMEDY),
    ("decimal_comma", None, "the value has a decimal comma and was set to null", _COMMA_REMEDY),
    ("latitude_range", "latitude", "latitude must lie in [-90, 90]; the place was set to null",
     "check the value and whether latitude and longitude are swapped"),
    ("longitude_range", "longitude", "longitude must lie in [-180, 180]; the place was set to null",
     "check the value"),
    ("lone_coordinate", None, "only one of latitude and longitude is known; it was set to null",
     "fill in both or neither"),
    ("elevation_range", "elevation", "elevation must lie in [-500, 9000] m; it was set to null",
     "give metres above sea level"),
    ("rating_range", "rating", "rating must lie in [0, 5]; it was set to null",
     "give a rating from 0 to 5"),
    ("date_format", "date", "the value is not a date and was set to null",
     "write dates as YYYY-MM-DD"),
    ("time_format", "time", "the value is not a time of day and was set to null",
     "write times as HH:MM or HH:MM:SS"),
    ("malformed_type", "type", "the value is not a list and was set to null",
     "write a list such as ['call', 'song'], or [] for none"),
    ("unknown_secondary_label", "secondary_labels", "the label is not in the class list; it was dropped",
     "correct the label or add it to the class list"),
    ("labels_not_read", None, "labels of test soundscapes are not read: nothing may be fitted to them",
     "move recordings and labels to train_soundscapes if they are not to serve as a test"),
    ("detections_not_read", None, "the table has a column of confidence: what a network found is no truth",
     "name the file in ingest.soundscape_labels if people have checked it"),
    ("soundscape_name", None, "the digits in the name are no date and time; both are null",
     "name soundscapes SITE_YYYYMMDD_HHMMSS"),
    ("conflicting_duplicate", "primary_label", "files with the same bytes have different labels",
     "keep one of the files, or list both species in its row"),
)  # fmt: skip

_GROUPS: tuple[tuple[Severity, tuple[tuple[str, str | None, str, str], ...]], ...] = (
    ("rejected", _ROW_RULES),
    ("rejected", _FILE_RULES),
    ("rejected", _LABEL_RULES),
    ("flagged", _FLAGS),
)

RULES: dict[str, FaultRule] = {
    name: FaultRule(name, severity, column, reason, remedy)
    for severity, group in _GROUPS
    for name, column, reason, remedy in group
}
"""Every rule by name. A probe adds its own: the code of the `SkipRecording` it raises."""


def shown(value: str | None) -> str | None:
    """The value, cut if it is very long."""
    if value is None or len(value) <= _LONGEST_VALUE:
        return value
    return f"{value[:_LONGEST_VALUE]}... ({len(value)} characters)"


@dataclass
class RejectLog:
    """Collects the rows of the table of rejects.

    Attributes:
        dataset: name of the dataset the rows belong to.
    """

    dataset: str
    _rows: list[dict[str, str | int | None]] = field(default_factory=list)

    def add(
        self,
        rule: str,
        *,
        file: str,
        row: int | None = None,
        column: str | None = None,
        value: str | None = None,
        recording_id: str | None = None,
        reason: str | None = None,
        remedy: str | None = None,
    ) -> None:
        """Note one broken rule; what is not given comes from the catalogue.

        A rule outside the catalogue (the code of a probe) is a rejection and needs a reason.
        """
        known = RULES.get(rule) or FaultRule(
            rule, "rejected", None, "", RULES["probe_error"].remedy
        )
        self._rows.append(
            {
                "dataset": self.dataset,
                "file": file,
                "row": row,
                "column": column or known.column,
                "rule": rule,
                "value": shown(value),
                "reason": reason or known.reason,
                "remedy": remedy or known.remedy,
                "severity": known.severity,
                "recording_id": recording_id,
            }
        )

    def frame(self) -> pl.DataFrame:
        """All rows with the schema `REJECTS`, by file, line, rule and column."""
        frame = pl.DataFrame(self._rows, schema=REJECTS, orient="row")
        return frame.sort("file", "row", "rule", "column", "value", maintain_order=True)

    def n_rejected(self) -> int:
        """Rows and files that are out, each counted once."""
        return len({(r["file"], r["row"]) for r in self._rows if r["severity"] == "rejected"})

    def counts(self) -> Counter[str]:
        """Number of rows for each rule."""
        return Counter(str(row["rule"]) for row in self._rows)

    def nothing_left(self, what: str) -> DatasetError:
        """The error for a dataset of which every row or file was rejected."""
        out = [row for row in self._rows if row["severity"] == "rejected"]
        counts = Counter(str(row["rule"]) for row in out)
        ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        told = ", ".join(f"{rule} {count}" for rule, count in ranked[:5])
        first = next(row for row in out if row["rule"] == ranked[0][0])
        line = f", line {first['row']}" if first["row"] is not None else ""
        column = f", column {first['column']}" if first["column"] else ""
        message = (
            f"dataset {self.dataset!r}: all {what} were rejected ({told}); the first: "
            f"{first['file']}{line}{column}, rule {first['rule']}: {first['reason']}, "
            f"got {first['value']!r}"
        )
        return DatasetError(message, remedy=str(first["remedy"]))


def table_fault(place: str, rule: str, what: str, remedy: str) -> DatasetError:
    """The error for a table that cannot be read at all.

    Args:
        place: file, and line or column where there is one.
        rule: stable short word.
        what: the sentence with the value.
        remedy: one imperative sentence.
    """
    message = f"{place}: {what} (rule {rule})"
    return DatasetError(message, remedy=remedy)
