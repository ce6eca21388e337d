"""An estimate is of recordings that nothing was learnt from, and no setting was chosen by.

Held apart are names, bytes and groups: a copy under another name, or another clip of the same
morning, has been met as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from birdstack.stacking.stack_table import StackTable
from birdstack.store.errors import LeakError

_NAMED = 3


@dataclass(frozen=True)
class Recordings:
    """Recordings by all that they may be known again by.

    Attributes:
        ids: names.
        hashes: content hashes, as far as they are known.
        groups: groups, as far as they are known.
    """

    ids: frozenset[str]
    hashes: frozenset[str] = frozenset()
    groups: frozenset[str] = frozenset()

    @classmethod
    def of(
        cls,
        ids: Iterable[str],
        hashes: Iterable[str | None] = (),
        groups: Iterable[str | None] = (),
    ) -> Recordings:
        """From columns of tables; what is not known is left out."""
        return cls(
            frozenset(ids),
            frozenset(value for value in hashes if value),
            frozenset(value for value in groups if value),
        )

    @classmethod
    def learnt_from(cls, table: StackTable) -> Recordings:
        """Those of a table that have a fold: what a study or a fit looks at."""
        at = np.flatnonzero(np.asarray(table.fold) >= 0).tolist()
        return cls.of([table.recording_ids[i] for i in at], (), [table.groups[i] for i in at])

    def as_dict(self) -> dict[str, list[str]]:
        """JSON-able; `Recordings.of(**saved)` is the same again."""
        return {
            "ids": sorted(self.ids),
            "hashes": sorted(self.hashes),
            "groups": sorted(self.groups),
        }


def check_study(study: Recordings, judged: Recordings, *, what: str = "tuning study") -> None:
    """Refuse an estimate on recordings that a study, or a fit, has looked at.

    Args:
        study: what was looked at.
        judged: what the estimate would be of.
        what: what looked at them, for the message.

    Raises:
        LeakError: naming some of them, and by what they were known again.
    """
    for kind, seen, mine in (
        ("recordings", study.ids, judged.ids),
        ("content hashes", study.hashes, judged.hashes),
        ("groups", study.groups, judged.groups),
    ):
        both = sorted(seen & mine)
        if both:
            more = f" and {len(both) - _NAMED} more" if len(both) > _NAMED else ""
            message = (
                f"{len(both)} of {len(mine)} {kind} to be judged were in the {what}: "
                f"{', '.join(map(repr, both[:_NAMED]))}{more}"
            )
            remedy = "judge by recordings that nothing was learnt from or chosen by, or tune anew"
            raise LeakError(message, remedy=remedy)


def refuse_judged_training(
    trained_ids: Sequence[str],
    trained_hashes: Sequence[str | None],
    judged_ids: Sequence[str],
    judged_hashes: Sequence[str | None],
    *,
    trained_groups: Sequence[str | None] = (),
    judged_groups: Sequence[str | None] = (),
) -> None:
    """Refuse an estimate on recordings that were trained on, by name, bytes or group.

    Raises:
        LeakError: naming some of them.
    """
    check_study(
        Recordings.of(trained_ids, trained_hashes, trained_groups),
        Recordings.of(judged_ids, judged_hashes, judged_groups),
        what="training recordings",
    )
