"""Publishes batch after batch; run as a child process by the crash tests.

Usage: publish_forever.py DATABASE_URL RASTER_ROOT [SEED BATCHES]. With a seed it publishes that many batches and ends.
Without, it forks a publisher that never ends for every seed on its standard input, so that twenty kills pay for one
start. A publisher prints a line per batch that was acknowledged.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from datetime import date, timedelta
from itertools import count
from pathlib import Path

from farm_intel.storage.database import open_database
from farm_intel.storage.observations import SqlObservationStore
from farm_intel.storage.publishing import farm_encoder
from farm_intel.storage.rasters import FolderRasters
from farm_intel_tests.storage.publications import make_publication


def tell(line: str) -> None:
    os.write(1, f"{line}\n".encode())


def publish(url: str, root: str, seed: int, numbers: Iterable[int]) -> None:
    store = SqlObservationStore(open_database(url), FolderRasters(Path(root)))
    for number in numbers:
        day = date(2024, 1, 1) + timedelta(days=number % 3)
        # 40 farms are flushed together, 4 one by one: both ways are killed.
        store.publish(make_publication(40 if number % 2 else 4, seed=seed + number, day=day, edge_px=16))
        tell(f"{day} {seed + number}")


def main() -> None:
    url, root, *rest = sys.argv[1:]
    if rest:
        publish(url, root, int(rest[0]), range(int(rest[1])))
        return
    farm_encoder(make_publication(1))(0)  # numba is warm before the first fork
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            publish(url, root, int(line), count())
        tell(f"publisher {child}")
        _, status = os.waitpid(child, 0)
        tell(f"ended {status}")


if __name__ == "__main__":
    main()
