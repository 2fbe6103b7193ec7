"""What processes that are killed leave behind for the judge, beside the database."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from farm_intel.domain.activity_work import Move
from farm_intel.storage.occurrences import SqlOccurrenceStore


def append_line(path: Path, line: str) -> None:
    """Append one line by one write: whoever is killed has written all of it or nothing."""
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(handle, f"{line}\n".encode())
    finally:
        os.close(handle)


class Telltale(SqlOccurrenceStore):
    """Writes down which effects the database has acknowledged, as a caller that was told so would remember them."""

    path: Path | None = None

    def move(self, moves: Sequence[Move], now: datetime) -> list[Move]:
        refused = super().move(moves, now)
        lost = {(move.before.activity_id, move.before.due_at) for move in refused}
        self.tell([move for move in moves if (move.before.activity_id, move.before.due_at) not in lost])
        return refused

    def tell(self, moves: Sequence[Move]) -> None:
        """Write down the effects of moves."""
        if self.path is None:
            return
        for move in moves:
            if move.entry is not None:
                append_line(self.path, f"{move.before.activity_id} {move.before.due_at.isoformat()}")
