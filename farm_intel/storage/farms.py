"""Farms and the versions of their boundaries in the relational store.

A changed boundary is a new version; changed attributes are not. Nothing is ever deleted: a removed farm is inactive, so
its observations keep the boundary they were measured over, and importing it again goes on where it stopped.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import batched
from typing import Any, cast

from sqlalchemy import Connection, Engine, Row, Select, bindparam, insert, select, update

from farm_intel.domain.errors import BadRequestError, UnknownNameError
from farm_intel.domain.farms import Farm
from farm_intel.domain.geo import BBox
from farm_intel.storage.database import reading, transaction
from farm_intel.storage.farm_drafts import Boundary, FarmDraft, ImportReport
from farm_intel.storage.tables import farm_versions as version_table
from farm_intel.storage.tables import farms as farm_table

MAIN_COHORT = "main"
UNASSIGNED = ""
"""Stored for a farm that no cohort was chosen for yet; read as `main`."""
CHUNK = 500
"""Ids per statement, below every database's limit of parameters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FarmVersion:
    """One boundary a farm has or had."""

    farm_id: str
    version: int
    boundary_wkb: bytes
    boundary_hash: str
    bbox: BBox
    longitude_deg: float
    latitude_deg: float
    area_ha: float
    created_at: datetime


class SqlFarmStore:
    """The port domain.ports.FarmStore, and what an operator does to farms."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def get(self, farm_id: str) -> Farm:
        """Return one farm, active or not.

        Raises:
            UnknownNameError: there is no such farm.

        """
        with reading(self._engine) as connection:
            row = connection.execute(_select_farms().where(farm_table.c.farm_id == farm_id)).one_or_none()
        if row is None:
            raise _unknown(farm_id)
        return _farm(row)

    def list(self, *, cohort: str | None = None, include_inactive: bool = False) -> list[Farm]:
        """Return farms ordered by home tile, then id (so that farms of a tile are contiguous)."""
        query = _select_farms().order_by(farm_table.c.home_tile, farm_table.c.farm_id)
        if not include_inactive:
            query = query.where(farm_table.c.active)
        if cohort is not None:
            stored = [cohort, UNASSIGNED] if cohort == MAIN_COHORT else [cohort]
            query = query.where(farm_table.c.cohort.in_(stored))
        with reading(self._engine) as connection:
            return [_farm(row) for row in connection.execute(query).all()]

    def versions(self, farm_id: str) -> Sequence[FarmVersion]:
        """Return every boundary of a farm, the first one first.

        Raises:
            UnknownNameError: there is no such farm.

        """
        query = select(version_table).where(version_table.c.farm_id == farm_id).order_by(version_table.c.version)
        with reading(self._engine) as connection:
            rows = connection.execute(query).all()
        if not rows:
            raise _unknown(farm_id)
        return [
            FarmVersion(
                farm_id=row.farm_id,
                version=row.version,
                boundary_wkb=row.boundary_wkb,
                boundary_hash=row.boundary_hash,
                bbox=_bbox(row),
                longitude_deg=row.longitude_deg,
                latitude_deg=row.latitude_deg,
                area_ha=row.area_ha,
                created_at=row.created_at,
            )
            for row in rows
        ]

    def remove(self, farm_id: str) -> None:
        """Deactivate a farm; its observations, rasters and versions stay.

        Raises:
            UnknownNameError: there is no such farm.

        """
        change = update(farm_table).where(farm_table.c.farm_id == farm_id, farm_table.c.active)
        with transaction(self._engine) as connection:
            if connection.execute(change.values(active=False)).rowcount:
                return
            if connection.scalar(select(farm_table.c.farm_id).where(farm_table.c.farm_id == farm_id)) is None:
                raise _unknown(farm_id)

    def import_drafts(self, drafts: Sequence[FarmDraft], *, now: datetime) -> ImportReport:
        """Add and update farms, all of them or (if the store refuses) none.

        A value the draft does not carry (no column, empty cell) leaves what is stored; a time zone that was derived
        follows the boundary, one that was given stays.

        Raises:
            BadRequestError: two drafts have one id.

        """
        repeated = [farm_id for farm_id, count in Counter(draft.farm_id for draft in drafts).items() if count > 1]
        if repeated:
            raise BadRequestError(f"farm {repeated[0]} occurs more than once in one import")
        work = _Import(now)
        with transaction(self._engine) as connection:
            stored = _stored(connection, [draft.farm_id for draft in drafts])
            for draft in drafts:
                work.take(draft, stored.get(draft.farm_id))
            work.write(connection)
        return work.report()

    def assign_cohorts(self, max_size: int, *, reshuffle: bool = False) -> Mapping[str, int]:
        """Give every farm without a cohort its cohort and return cohort -> active farms.

        While all farms fit, there is one cohort, `main`. Beyond, new farms go into cohorts of their home tile: `33TWM`,
        and when that is full `33TWM_2` and so on. Cohorts are part of asset keys, so a farm never changes its cohort by
        itself, not even when others leave; only `reshuffle` (the operator's decision) deals all farms anew.

        Raises:
            BadRequestError: a cohort must hold at least one farm.

        """
        if max_size < 1:
            raise BadRequestError(f"cohorts of {max_size} farms are not possible", hint="Set cohort_size to 1 or more.")
        columns = farm_table.c
        with transaction(self._engine) as connection:
            rows = connection.execute(
                select(columns.farm_id, columns.home_tile, columns.cohort, columns.active).order_by(
                    columns.home_tile, columns.farm_id
                )
            ).all()
            if reshuffle:
                kept, waiting = {}, [(row.farm_id, row.home_tile) for row in rows]
            else:
                kept = {row.farm_id: row.cohort for row in rows if row.cohort != UNASSIGNED}
                waiting = [(row.farm_id, row.home_tile) for row in rows if row.cohort == UNASSIGNED]
            assigned = deal_cohorts(Counter(kept.values()), waiting, max_size)
            moved = [
                {"key": row.farm_id, "cohort": assigned[row.farm_id]}
                for row in rows
                if row.farm_id in assigned and assigned[row.farm_id] != row.cohort
            ]
            if moved:
                connection.execute(update(farm_table).where(columns.farm_id == bindparam("key")), moved)
        final = {**kept, **assigned}
        return Counter(final[row.farm_id] for row in rows if row.active)


def deal_cohorts(sizes: Mapping[str, int], waiting: Sequence[tuple[str, str]], max_size: int) -> dict[str, str]:
    """Return farm id -> cohort for farms that have none.

    Args:
        sizes: cohort -> farms already in it; removed farms count, because they may come back.
        waiting: (farm id, home tile) in the order in which cohorts are filled.
        max_size: farms a cohort may hold.

    """
    only_main = not set(sizes) - {MAIN_COHORT}
    if only_main and sizes.get(MAIN_COHORT, 0) + len(waiting) <= max_size:
        return {farm_id: MAIN_COHORT for farm_id, _ in waiting}
    filled = defaultdict(int, sizes)
    shard: dict[str, int] = defaultdict(lambda: 1)
    assigned: dict[str, str] = {}
    for farm_id, tile in waiting:
        while filled[_shard_name(tile, shard[tile])] >= max_size:
            shard[tile] += 1
        cohort = _shard_name(tile, shard[tile])
        filled[cohort] += 1
        assigned[farm_id] = cohort
    return assigned


def _shard_name(tile: str, number: int) -> str:
    return tile if number == 1 else f"{tile}_{number}"


class _Import:
    """Collects what one import changes, then writes it with one statement per kind."""

    def __init__(self, now: datetime) -> None:
        self._now = now
        self._new_farms: list[dict[str, Any]] = []
        self._changes: list[dict[str, Any]] = []
        self._versions: list[dict[str, Any]] = []
        self._ids: dict[str, list[str]] = defaultdict(list)

    def take(self, draft: FarmDraft, old: Farm | None) -> None:
        """Decide what a draft means for the farm that is there."""
        if old is None:
            self._add(draft)
            return
        new_boundary = old.boundary_hash != draft.boundary.sha
        values = {
            "name": old.name if draft.name is None else draft.name,
            "crop": old.crop if draft.crop is None else draft.crop,
            "planting_date": old.planting_date if draft.planting_date is None else draft.planting_date,
            "time_zone": _zone(draft, old) if draft.time_zone_given or new_boundary else old.time_zone,
        }
        edited = any(getattr(old, name) != value for name, value in values.items())
        if not old.active:
            self._ids["reactivated"].append(draft.farm_id)
        if not (new_boundary or edited):
            if old.active:
                self._ids["unchanged"].append(draft.farm_id)
                return
        else:
            self._ids["updated" if new_boundary else "edited"].append(draft.farm_id)
        version = old.boundary_version + new_boundary
        if new_boundary:
            self._versions.append(self._version_row(draft.farm_id, version, draft.boundary))
        self._changes.append(
            {
                "key": draft.farm_id,
                **values,
                "active": True,
                "current_version": version,
                "home_tile": draft.boundary.home_tile if new_boundary else old.home_tile,
                "updated_at": self._now,
            }
        )

    def write(self, connection: Connection) -> None:
        """Write everything that was taken."""
        if self._new_farms:
            connection.execute(insert(farm_table), self._new_farms)
        if self._versions:
            connection.execute(insert(version_table), self._versions)
        if self._changes:
            connection.execute(update(farm_table).where(farm_table.c.farm_id == bindparam("key")), self._changes)

    def report(self) -> ImportReport:
        """Return what was done."""
        return ImportReport(**{kind: tuple(ids) for kind, ids in self._ids.items()})

    def _add(self, draft: FarmDraft) -> None:
        self._ids["added"].append(draft.farm_id)
        self._versions.append(self._version_row(draft.farm_id, 1, draft.boundary))
        self._new_farms.append(
            {
                "farm_id": draft.farm_id,
                "name": draft.farm_id if draft.name is None else draft.name,
                "current_version": 1,
                "time_zone": draft.time_zone,
                "crop": draft.crop,
                "planting_date": draft.planting_date,
                "cohort": UNASSIGNED,
                "home_tile": draft.boundary.home_tile,
                "active": True,
                "created_at": self._now,
                "updated_at": self._now,
            }
        )

    def _version_row(self, farm_id: str, version: int, boundary: Boundary) -> dict[str, Any]:
        box = boundary.bbox
        return {
            "farm_id": farm_id,
            "version": version,
            "boundary_wkb": boundary.wkb,
            "boundary_hash": boundary.sha,
            "bbox_west": box.west,
            "bbox_south": box.south,
            "bbox_east": box.east,
            "bbox_north": box.north,
            "longitude_deg": boundary.longitude_deg,
            "latitude_deg": boundary.latitude_deg,
            "area_ha": boundary.area_ha,
            "created_at": self._now,
        }


def _zone(draft: FarmDraft, old: Farm) -> str:
    """Return the zone after a boundary edit: derived zones follow the position, given ones stay."""
    import tzfpy

    if draft.time_zone_given or old.time_zone == tzfpy.get_tz(old.longitude_deg, old.latitude_deg):
        return draft.time_zone
    return old.time_zone


def _select_farms() -> Select[Any]:
    farm, version = farm_table.c, version_table.c
    return select(
        farm.farm_id,
        farm.name,
        farm.current_version,
        farm.time_zone,
        farm.crop,
        farm.planting_date,
        farm.cohort,
        farm.home_tile,
        farm.active,
        farm.created_at,
        version.boundary_wkb,
        version.boundary_hash,
        version.bbox_west,
        version.bbox_south,
        version.bbox_east,
        version.bbox_north,
        version.longitude_deg,
        version.latitude_deg,
        version.area_ha,
    ).join(
        version_table,
        (version.farm_id == farm_table.c.farm_id) & (version.version == farm_table.c.current_version),
    )


def _stored(connection: Connection, farm_ids: Iterable[str]) -> dict[str, Farm]:
    return {
        row[0]: _farm(row)
        for chunk in batched(farm_ids, CHUNK)
        for row in connection.execute(_select_farms().where(farm_table.c.farm_id.in_(chunk)))
    }


def _bbox(row: Row[Any]) -> BBox:
    return BBox(west=row.bbox_west, south=row.bbox_south, east=row.bbox_east, north=row.bbox_north)


def _farm(row: Row[Any]) -> Farm:
    """Return the farm of a row of `_select_farms`; by position, because a list has thousands and names cost half."""
    (farm_id, name, version, time_zone, crop, planted, cohort, home_tile, active, created_at, wkb, sha, *place) = cast(
        "tuple[Any, ...]", row
    )
    west, south, east, north, longitude_deg, latitude_deg, area_ha = place
    return Farm(
        farm_id=farm_id,
        name=name,
        boundary_wkb=wkb,
        boundary_version=version,
        boundary_hash=sha,
        bbox=BBox(west=west, south=south, east=east, north=north),
        longitude_deg=longitude_deg,
        latitude_deg=latitude_deg,
        area_ha=area_ha,
        time_zone=time_zone,
        home_tile=home_tile,
        cohort=cohort or MAIN_COHORT,
        crop=crop,
        planting_date=planted,
        active=active,
        created_at=created_at,
    )


def _unknown(farm_id: str) -> UnknownNameError:
    return UnknownNameError(f"there is no farm {farm_id!r}", hint="`farm-intel farms list` shows them.")
