"""The factory of a cohort's alert asset: the rules over the stored assets, one partition per day and farm."""

from collections.abc import Iterator
from datetime import date

import dagster as dg

from farm_intel.defs import compat
from farm_intel.defs.alert_events import ALERTS, NO_ALERT, NO_ALERT_DESCRIPTION, AlertTeller, alert_key
from farm_intel.defs.assess_assets import ASSESS
from farm_intel.defs.cell_events import CellEvent, CellLedger
from farm_intel.defs.failures import told_failures
from farm_intel.defs.fusing import FUSED
from farm_intel.defs.groups import CohortGroup
from farm_intel.defs.index_assets import OWNERS, active_cells, run_cells
from farm_intel.defs.partitions import FARM_DIMENSION, cell_partitions
from farm_intel.defs.ports import FarmIntel
from farm_intel.defs.resources import FarmIntelResource
from farm_intel.defs.series_events import FARM, SEASON, STATE

_BY_FARM = compat.whole_of_dimension(FARM_DIMENSION)


def build_alert_asset(container: FarmIntel, group: CohortGroup, today: date) -> dg.AssetsDefinition:
    """Return what the alert rules say of the farms of a cohort; materialising it lets alerts open and resolve."""
    key = alert_key(group)
    partitions = cell_partitions(container.settings, group.dimension, today)

    @dg.multi_asset(
        name=group.named("evaluate_alerts"),
        specs=[_asset_spec(group, key, partitions)],
        check_specs=[compat.partitioned_check(NO_ALERT, key, partitions, NO_ALERT_DESCRIPTION)],
        can_subset=True,  # otherwise Dagster waits for an output of the check besides its events
        backfill_policy=dg.BackfillPolicy.single_run(),
        pool=ASSESS,
    )
    def evaluate_alerts(context: dg.AssetExecutionContext, farm_intel: FarmIntelResource) -> Iterator[CellEvent]:
        """Evaluate the rules on the run's farms and days."""
        cells = active_cells(farm_intel.container, group, run_cells(context, group))
        teller = AlertTeller(
            group=group,
            container=farm_intel.container,
            ledger=CellLedger(instance=context.instance, run_id=context.run.run_id),
            complete=compat.BACKFILL_TAG in context.run.tags,
        )
        with told_failures(farm_intel.watch), compat.quick_sqlite_events(context.instance):
            yield from teller.tell(cells)
            yield from teller.ledger.flush()

    return evaluate_alerts


def _asset_spec(group: CohortGroup, key: dg.AssetKey, partitions: dg.PartitionsDefinition) -> dg.AssetSpec:
    return dg.AssetSpec(
        key,
        deps=[
            group.asset_key(STATE, FARM),
            *(group.asset_key(FUSED, slug) for slug in group.slugs),
            *(dg.AssetDep(group.asset_key(SEASON, slug), partition_mapping=_BY_FARM) for slug in group.slugs),
        ],
        description=(
            "What the alert rules say of a farm on a day: which hold, which are clear, which nothing is known of, and "
            "which a logged activity explains; with the alerts live that day and what they rest on.\n\n"
            "Alerts open and resolve by it. A day of which nothing can be said is not materialised."
        ),
        group_name=ALERTS if group.plain else group.named(ALERTS),
        owners=list(OWNERS),
        kinds={"python"},
        partitions_def=partitions,
        skippable=True,
    )
