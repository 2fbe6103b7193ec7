"""What asset selections, schedules and sensors name; the part of compat that only the guard of definitions needs."""

from collections.abc import Iterable, Iterator

import dagster as dg
from dagster._core.definitions.asset_selection import (
    AllAssetCheckSelection,
    AllSelection,
    AssetCheckKeysSelection,
    AssetChecksForAssetKeysSelection,
    ChainedAssetSelection,
    GroupsAssetSelection,
    KeysAssetSelection,
    OperandListAssetSelection,
    SubtractAssetSelection,
)
from dagster._core.definitions.assets.graph.asset_graph import AssetGraph

from farm_intel.defs.compat import AssetJob


def named_jobs(automation: dg.ScheduleDefinition | dg.SensorDefinition) -> list[str]:
    """Return the jobs a schedule or sensor names by text; those it holds are loaded with it."""
    targets = [automation.target] if isinstance(automation, dg.ScheduleDefinition) else automation.targets
    return [target.resolvable_to_job for target in targets if isinstance(target.resolvable_to_job, str)]


def automation_selections(automation: dg.ScheduleDefinition | dg.SensorDefinition) -> Iterator[dg.AssetSelection]:
    """Yield the asset selections a schedule or sensor was made with."""
    targets = [automation.target] if isinstance(automation, dg.ScheduleDefinition) else automation.targets
    for target in targets:
        if isinstance(target.resolvable_to_job, AssetJob):
            yield target.resolvable_to_job.selection
    if isinstance(automation, dg.SensorDefinition) and automation.asset_selection is not None:
        yield automation.asset_selection
    if isinstance(automation, dg.AssetSensorDefinition):
        yield dg.AssetSelection.assets(automation.asset_key)


class GraphNames:
    """Tells which names of a selection are nothing in a graph."""

    def __init__(self, graph: AssetGraph) -> None:
        self._graph = graph
        self._groups = {node.group_name for node in graph.asset_nodes}

    def missing(self, selection: dg.AssetSelection) -> list[str]:
        """Return what the selection names and the graph has not, in words, each once."""
        return list(dict.fromkeys(name for leaf in _leaves(selection) for name in self._missing_of(leaf)))

    def _missing_of(self, leaf: dg.AssetSelection) -> Iterator[str]:
        if isinstance(leaf, AllSelection | AllAssetCheckSelection):
            return
        if isinstance(leaf, KeysAssetSelection):
            yield from self._missing_assets(leaf.selected_keys)
        elif isinstance(leaf, AssetChecksForAssetKeysSelection):
            yield from self._missing_assets(leaf.selected_asset_keys)
        elif isinstance(leaf, AssetCheckKeysSelection):
            checks = self._graph.asset_check_keys
            yield from (
                f"the check {key.to_user_string()}" for key in leaf.selected_asset_check_keys if key not in checks
            )
        elif isinstance(leaf, GroupsAssetSelection):
            yield from (f"the group {name}" for name in leaf.selected_groups if name not in self._groups)
        elif not leaf.resolve(self._graph, allow_missing=True):
            yield str(leaf)

    def _missing_assets(self, keys: Iterable[dg.AssetKey]) -> Iterator[str]:
        made = self._graph.materializable_asset_keys
        yield from (f"the asset {key.to_user_string()}" for key in keys if key not in made)


def _leaves(selection: dg.AssetSelection) -> Iterator[dg.AssetSelection]:
    """Yield the parts of a selection that name something themselves."""
    if isinstance(selection, OperandListAssetSelection):
        for operand in selection.operands:
            yield from _leaves(operand)
    elif isinstance(selection, SubtractAssetSelection):
        yield from _leaves(selection.left)
        yield from _leaves(selection.right)
    elif isinstance(selection, ChainedAssetSelection):
        yield from _leaves(selection.child)
    else:
        yield selection
