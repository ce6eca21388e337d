"""What a look for leaks finds: certain ones are refused, doubtful ones are told with figures."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

REFUSED: Literal["refused"] = "refused"
WARNING: Literal["warning"] = "warning"


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a table, or may be.

    Attributes:
        severity: `refused` where there is no honest way to it, else `warning`.
        rule: short and stable, for JSON.
        column: the column, or the backbone; empty for the table.
        why: one sentence with the figures.
        remedy: what to do, as one imperative sentence.
    """

    severity: Literal["refused", "warning"]
    rule: str
    column: str
    why: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.column}: {self.why}" if self.column else self.why

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)
