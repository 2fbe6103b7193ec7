"""Is the store whole: rows against objects in both directions, checksums, and the reaper of what nobody refers to."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, Select, and_, delete, exists, func, select

from farm_intel.domain.errors import StoreError
from farm_intel.domain.observations import Flag, ObservationStatus
from farm_intel.storage import tables
from farm_intel.storage.bulk import one_of
from farm_intel.storage.database import hold_for_sweep, reading, transaction
from farm_intel.storage.raster_store import RasterStore, StoredFile

GRACE = timedelta(hours=24)
"""Age under which nothing is taken for an orphan: a publisher may be about to commit its row."""

_EXAMPLES = 5
_CHUNK = 500
"""Files removed while publishers wait."""
_PREFIXES = tuple(f"{number:02x}" for number in range(256))
"""The folders of the raster store; one at a time bounds the memory."""

_OBSERVED = ObservationStatus.OBSERVED.value


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One kind of damage."""

    problem: str
    count: int
    examples: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FsckReport:
    """What a check found; an empty `findings` means the store is whole."""

    findings: tuple[Finding, ...]
    observations: int
    rasters: int
    rehashed: int
    superseded: int
    """Rasters that newer ones replaced; `repair` frees them, they harm nobody."""
    in_flight: int
    """Files without a row that are younger than the grace period: a publisher may be at work."""

    @property
    def clean(self) -> bool:
        """True where nothing is wrong."""
        return not self.findings


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairReport:
    """What the reaper removed."""

    raster_rows: int
    objects: int
    temporary_files: int
    bytes_freed: int


def check_store(
    engine: Engine, rasters: RasterStore, *, rehash: bool, grace: timedelta = GRACE, now: datetime | None = None
) -> FsckReport:
    """Compare rows with rasters in both directions; changes nothing and may run beside publishers.

    Args:
        engine: a migrated database.
        rasters: where its rasters are.
        rehash: read every raster and compare it with its address.
        grace: age under which files without rows are not a problem yet.
        now: the instant ages are counted to; default the system's.

    """
    horizon = (now or datetime.now(UTC)).timestamp() - grace.total_seconds()
    damage = _Damage()
    with reading(engine) as connection:
        for problem, query in _row_checks().items():
            for row in connection.execute(query):
                damage.add(problem, " ".join(str(value) for value in row))
        observations = _count(connection, select(func.count()).select_from(tables.observations))
        superseded = _count(connection, select(func.count()).select_from(tables.rasters).where(_unreferenced()))
    counted = rehashed = in_flight = 0
    for prefix in _PREFIXES:
        # Rows first: a raster that is published meanwhile is then at worst a young file without a row.
        rows = _raster_rows(engine, prefix)
        files = rasters.objects(prefix)
        counted += len(rows)
        whole = [sha256 for sha256, row in rows.items() if _fits(sha256, row, files.get(sha256), damage)]
        if rehash:
            rehashed += len(whole)
            _rehash(rasters, whole, damage)
        for sha256 in files.keys() - rows.keys():
            if files[sha256].modified_at < horizon:
                damage.add("raster file without a row", sha256)
            else:
                in_flight += 1
    for file in rasters.unfinished():
        if file.modified_at < horizon:
            damage.add("half-written temporary file", file.name)
        else:
            in_flight += 1
    return FsckReport(
        findings=damage.findings(),
        observations=observations,
        rasters=counted,
        rehashed=rehashed,
        superseded=superseded,
        in_flight=in_flight,
    )


def repair(
    engine: Engine, rasters: RasterStore, *, grace: timedelta = GRACE, now: datetime | None = None
) -> RepairReport:
    """Remove superseded raster rows, files without a row and temporary files, all older than the grace period.

    Rows go first and files after, each step while publishers wait, so that a crash leaves orphans and never a row
    without its raster. Rows without rasters are not repaired: computing those cells again with `--force` does that.
    """
    moment = now or datetime.now(UTC)
    horizon = moment.timestamp() - grace.total_seconds()
    with transaction(engine) as connection:
        hold_for_sweep(connection)
        old = tables.rasters.c.created_at < moment - grace
        rows = connection.execute(delete(tables.rasters).where(_unreferenced(), old)).rowcount
    objects = freed = 0
    for prefix in _PREFIXES:
        known = _raster_rows(engine, prefix)
        files = rasters.objects(prefix)
        orphans = [name for name, state in files.items() if name not in known and state.modified_at < horizon]
        for start in range(0, len(orphans), _CHUNK):
            removed = _remove_orphans(engine, rasters, orphans[start : start + _CHUNK], horizon)
            objects += len(removed)
            freed += sum(files[name].size_bytes for name in removed)
    temporary = 0
    for file in rasters.unfinished():
        if file.modified_at < horizon:
            rasters.remove_unfinished(file.name)
            temporary += 1
            freed += file.size_bytes
    return RepairReport(raster_rows=rows, objects=objects, temporary_files=temporary, bytes_freed=freed)


class _Damage:
    """Counts and the first few names of each kind of damage; a lost disk must not fill the memory."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._examples: defaultdict[str, list[str]] = defaultdict(list)

    def add(self, problem: str, name: str) -> None:
        self._counts[problem] += 1
        if self._counts[problem] <= _EXAMPLES:
            self._examples[problem].append(name)

    def findings(self) -> tuple[Finding, ...]:
        return tuple(
            Finding(problem=problem, count=count, examples=tuple(self._examples[problem]))
            for problem, count in self._counts.items()
        )


def _fits(sha256: str, row: tuple[str, int], state: StoredFile | None, damage: _Damage) -> bool:
    """Return True where a raster row's file is there and looks right from outside."""
    path, size = row
    if state is None:
        damage.add("raster row without its file", sha256)
    elif state.size_bytes != size:
        damage.add("raster file of the wrong size", sha256)
    elif path != RasterStore.relative_path(sha256):
        damage.add("raster row with the wrong path", sha256)
    else:
        return True
    return False


def _rehash(rasters: RasterStore, addresses: Sequence[str], damage: _Damage) -> None:
    for sha256 in addresses:
        try:
            matches = rasters.address(rasters.read(sha256)) == sha256
        except StoreError:
            matches = False
        if not matches:
            damage.add("raster file that does not match its checksum", sha256)


def _row_checks() -> Mapping[str, Select[Any]]:
    """Return the rows that are wrong by themselves; duplicates cannot be, the primary keys see to that."""
    cells, days = tables.observations, tables.coverage
    key = (cells.c.farm_id, cells.c.index_slug, cells.c.solar_day, cells.c.provider)

    def without_raster_row(column: ColumnElement[Any]) -> ColumnElement[bool]:
        return column.is_not(None) & ~exists().where(tables.rasters.c.sha256 == column)

    observed = cells.c.status == _OBSERVED
    return {
        "observation of an unknown raster": select(*key).where(without_raster_row(cells.c.raster_sha256)),
        "calendar day of an unknown raster": select(days.c.farm_id, days.c.solar_day, days.c.provider).where(
            without_raster_row(days.c.raster_sha256)
        ),
        "observed cell without a raster": select(*key).where(
            # what a provider counted by its own means never had one
            observed,
            cells.c.raster_sha256.is_(None),
            cells.c.flags.not_like(f"%{Flag.PROVIDER_STATISTICS.value}%"),
        ),
        "observed cell without a number": select(*key).where(observed, cells.c.mean.is_(None)),
        "number in a cell that was not observed": select(*key).where(~observed, cells.c.mean.is_not(None)),
    }


def _unreferenced() -> ColumnElement[bool]:
    sha256 = tables.rasters.c.sha256
    used = [table.c.raster_sha256 for table in (tables.observations, tables.coverage)]
    return and_(*(sha256.not_in(select(column).where(column.is_not(None))) for column in used))


def _raster_rows(engine: Engine, prefix: str) -> dict[str, tuple[str, int]]:
    c = tables.rasters.c
    query = select(c.sha256, c.path, c.size_bytes).where(c.sha256.between(prefix, prefix + "g"))
    with reading(engine) as connection:
        return {sha256: (path, size) for sha256, path, size in connection.execute(query)}


def _remove_orphans(engine: Engine, rasters: RasterStore, names: Sequence[str], horizon: float) -> list[str]:
    removed = []
    with transaction(engine) as connection:
        hold_for_sweep(connection)
        c = tables.rasters.c.sha256
        adopted = set(connection.scalars(select(c).where(one_of(c, names, connection))))
        for name in names:
            # A publisher marks the files it reuses as young, then commits its row: look again now that it cannot.
            if name not in adopted and _age_mark(rasters, name) < horizon:
                rasters.remove(name)
                removed.append(name)
    return removed


def _age_mark(rasters: RasterStore, name: str) -> float:
    state = rasters.state(name)
    return float("inf") if state is None else state.modified_at


def _count(connection: Connection, query: Select[Any]) -> int:
    return int(connection.scalar(query) or 0)
