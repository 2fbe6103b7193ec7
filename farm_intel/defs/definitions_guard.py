"""What is wrong with a code location although it loads: names of assets, groups, checks and jobs that are nothing.

Dagster takes a dependency on a key nobody makes for an external asset, a selection by a group, tag or prefix that
matches nothing for an empty one, and a date that never comes for a schedule. All three look well and do nothing. An
installation of ours has no external assets, so each of them is a mistake.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

import dagster as dg

from farm_intel.defs import compat, compat_selections

Automation = dg.ScheduleDefinition | dg.SensorDefinition
EPOCH = datetime(2024, 1, 1, tzinfo=UTC)
"""Where the search for a schedule's first date begins; which day does not matter."""


def definition_problems(definitions: dg.Definitions) -> list[str]:
    """Return what is wrong with a code location, one line each; empty where all is well.

    Args:
        definitions: not resolved yet: what Dagster itself would refuse becomes a line too.

    """
    assets = [one for one in definitions.assets or () if isinstance(one, dg.AssetsDefinition)]
    schedules = [one for one in definitions.schedules or () if isinstance(one, dg.ScheduleDefinition)]
    sensors = list(definitions.sensors or ())
    jobs = list(definitions.jobs or ())
    found = [
        *_shared_names(assets, jobs, [*schedules, *sensors]),
        *_loose_dependencies(assets),
        *_loose_checks([*assets, *(definitions.asset_checks or ())], _keys(assets)),
        *_bad_crons(schedules),
        *_missing_jobs([*schedules, *sensors], {str(job.name) for job in jobs}),
        *_selection_problems(definitions, jobs, [*schedules, *sensors]),
    ]
    return found or list(_refused(definitions))


def _keys(assets: Iterable[dg.AssetsDefinition]) -> set[dg.AssetKey]:
    return {key for one in assets for key in one.keys}


def _shared_names(
    assets: Iterable[dg.AssetsDefinition],
    jobs: Iterable[object],
    automations: Iterable[Automation],
) -> Iterator[str]:
    names = {
        "assets": Counter(key.to_user_string() for one in assets for key in one.keys),
        "checks": Counter(
            f"{spec.name} of {spec.asset_key.to_user_string()}" for one in assets for spec in one.check_specs
        ),
        "jobs": Counter(str(getattr(job, "name", "")) for job in _distinct(jobs)),
        "schedules or sensors": Counter(automation.name for automation in automations),
    }
    for kind, counts in names.items():
        yield from (f"{count} {kind} are named {name}" for name, count in counts.items() if count > 1)


def _distinct(things: Iterable[object]) -> list[object]:
    """Return things without those that are given twice: the same job may be."""
    return list({id(thing): thing for thing in things}.values())


def _loose_dependencies(assets: Iterable[dg.AssetsDefinition]) -> Iterator[str]:
    listed = list(assets)
    made = _keys(listed)
    for one in listed:
        for spec in one.specs:
            for dep in spec.deps:
                if dep.asset_key not in made:
                    yield (
                        f"asset {spec.key.to_user_string()} depends on {dep.asset_key.to_user_string()}, which is no "
                        "asset"
                    )


def _loose_checks(checked: Iterable[dg.AssetsDefinition], made: set[dg.AssetKey]) -> Iterator[str]:
    for one in checked:
        for spec in one.check_specs:
            named = [spec.asset_key, *(dep.asset_key for dep in spec.additional_deps)]
            for key in named:
                if key not in made:
                    yield f"check {spec.name} names {key.to_user_string()}, which is no asset"


def _bad_crons(schedules: Iterable[dg.ScheduleDefinition]) -> Iterator[str]:
    from cronsim import CronSim, CronSimError

    for schedule in schedules:
        given = schedule.cron_schedule
        for text in [given] if isinstance(given, str) else given:
            try:
                CronSim(text, EPOCH)
            except CronSimError as error:
                yield f"schedule {schedule.name} has the cron {text!r}, which never fires: {error}"


def _missing_jobs(automations: Iterable[Automation], jobs: set[str]) -> Iterator[str]:
    for automation in automations:
        for name in compat_selections.named_jobs(automation):
            if name not in jobs:
                yield f"{_kind(automation)} {automation.name} starts the job {name}, which does not exist"


def _selection_problems(
    definitions: dg.Definitions, jobs: Iterable[object], automations: Iterable[Automation]
) -> Iterator[str]:
    """Yield the names in selections that select nothing, looked up in the assets alone."""
    try:
        graph = dg.Definitions(
            assets=definitions.assets,
            asset_checks=definitions.asset_checks,
            resources=definitions.resources,
            executor=definitions.executor,
        ).resolve_asset_graph()
    except dg.DagsterError as error:
        yield f"the assets cannot be resolved: {_first_line(error)}"
        return
    found = compat_selections.GraphNames(graph)
    for job in _distinct(jobs):
        if isinstance(job, compat.AssetJob):
            yield from (f"job {job.name} selects {name}, which does not exist" for name in found.missing(job.selection))
    for automation in automations:
        for selection in compat_selections.automation_selections(automation):
            yield from (
                f"{_kind(automation)} {automation.name} selects {name}, which does not exist"
                for name in found.missing(selection)
            )


def _refused(definitions: dg.Definitions) -> Iterator[str]:
    """Yield what Dagster itself finds."""
    try:
        dg.Definitions.validate_loadable(definitions)
    except dg.DagsterError as error:
        yield f"Dagster refuses the definitions: {_first_line(error)}"


def _kind(automation: Automation) -> str:
    return "schedule" if isinstance(automation, dg.ScheduleDefinition) else "sensor"


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
