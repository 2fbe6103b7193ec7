"""The factories of daily series, seasons and farm states of a cohort."""

from collections.abc import Iterator
from datetime import date

import dagster as dg

from farm_intel.defs import compat
from farm_intel.defs.cell_events import CellEvent, CellLedger
from farm_intel.defs.failures import told_failures
from farm_intel.defs.fusing import FUSED
from farm_intel.defs.groups import CohortGroup
from farm_intel.defs.index_assets import OWNERS, active_cells, run_cells
from farm_intel.defs.partitions import FARM_DIMENSION, cell_partitions
from farm_intel.defs.ports import FarmIntel
from farm_intel.defs.resources import FarmIntelResource
from farm_intel.defs.series_events import DAILY, FARM, SEASON, STATE, STATE_KNOWN, STATE_KNOWN_DESCRIPTION, Teller

ASSESS = "assess"
"""Pool of everything that is made of fused values."""

_BY_FARM = compat.whole_of_dimension(FARM_DIMENSION)
"""A farm's series rests on all its days, and a day's state on the farm's season."""


def build_series_assets(group: CohortGroup) -> dg.AssetsDefinition:
    """Return the daily series and seasons of a cohort, one partition per farm, in one operation."""
    farms = dg.DynamicPartitionsDefinition(name=group.dimension)

    @dg.multi_asset(
        name=group.named("assess"),
        specs=[*_series_specs(group, farms)],
        can_subset=True,
        backfill_policy=dg.BackfillPolicy.single_run(),
        pool=ASSESS,
    )
    def assess(context: dg.AssetExecutionContext, farm_intel: FarmIntelResource) -> Iterator[CellEvent]:
        """Smooth the fused values of the run's farms, then make their seasons."""
        container = farm_intel.container
        active = {farm.farm_id for farm in container.farms.list(cohort=group.cohort)}
        farm_ids = [key for key in map(str, context.partition_keys) if key in active]
        selected = context.selected_asset_keys
        teller = _teller(context, group, container)
        with told_failures(farm_intel.watch), compat.quick_sqlite_events(context.instance):
            yield from teller.daily(farm_ids, group.selected(DAILY, selected))
            yield from teller.seasons(farm_ids, group.selected(SEASON, selected))
            yield from teller.ledger.flush()

    return assess


def build_state_asset(container: FarmIntel, group: CohortGroup, today: date) -> dg.AssetsDefinition:
    """Return the state of the farms of a cohort, one partition per day and farm."""
    key = group.asset_key(STATE, FARM)
    partitions = cell_partitions(container.settings, group.dimension, today)

    @dg.multi_asset(
        name=group.named("tell_state"),
        specs=[
            dg.AssetSpec(
                key,
                deps=[
                    *(group.asset_key(FUSED, slug) for slug in group.slugs),
                    *(dg.AssetDep(group.asset_key(SEASON, slug), partition_mapping=_BY_FARM) for slug in group.slugs),
                ],
                description=(
                    "What a farm is in on a day, since when, how sure, and why, by the rule tables; with an event "
                    "where one has just begun.\n\nRests on what was observed up to that day."
                ),
                group_name=_group_name(group, STATE),
                owners=list(OWNERS),
                kinds={"python"},
                partitions_def=partitions,
                skippable=True,
            )
        ],
        check_specs=[compat.partitioned_check(STATE_KNOWN, key, partitions, STATE_KNOWN_DESCRIPTION)],
        can_subset=True,  # otherwise Dagster waits for an output of the check besides its events
        backfill_policy=dg.BackfillPolicy.single_run(),
        pool=ASSESS,
    )
    def tell_state(context: dg.AssetExecutionContext, farm_intel: FarmIntelResource) -> Iterator[CellEvent]:
        """Tell the states of the run's farms and days."""
        cells = active_cells(farm_intel.container, group, run_cells(context, group))
        teller = _teller(context, group, farm_intel.container)
        with told_failures(farm_intel.watch), compat.quick_sqlite_events(context.instance):
            yield from teller.states(cells)
            yield from teller.ledger.flush()

    return tell_state


def _teller(context: dg.AssetExecutionContext, group: CohortGroup, container: FarmIntel) -> Teller:
    return Teller(
        group=group,
        container=container,
        ledger=CellLedger(instance=context.instance, run_id=context.run.run_id),
        complete=compat.BACKFILL_TAG in context.run.tags,
    )


def _series_specs(group: CohortGroup, farms: dg.PartitionsDefinition) -> Iterator[dg.AssetSpec]:
    for index in group.indices:
        daily = group.asset_key(DAILY, index.slug)
        yield dg.AssetSpec(
            daily,
            deps=[dg.AssetDep(group.asset_key(FUSED, index.slug), partition_mapping=_BY_FARM)],
            description=(
                f"{index.long_name} ({index.name}), one value per day without gaps, with an uncertainty that widens "
                "with the distance from data.\n\nInterpolated, never mixed with observations."
            ),
            group_name=_group_name(group, DAILY),
            owners=list(OWNERS),
            kinds={"python"},
            partitions_def=farms,
            skippable=True,
        )
        yield dg.AssetSpec(
            group.asset_key(SEASON, index.slug),
            deps=[daily],
            description=(
                f"{index.long_name} ({index.name}) against the farm's own past: baseline, anomaly, percentile, trend; "
                "start, peak and end of its seasons."
            ),
            group_name=_group_name(group, SEASON),
            owners=list(OWNERS),
            kinds={"python"},
            partitions_def=farms,
            skippable=True,
        )


def _group_name(group: CohortGroup, kind: str) -> str:
    return kind if group.plain else group.named(kind)
