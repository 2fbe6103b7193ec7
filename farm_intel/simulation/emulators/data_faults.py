"""What can be wrong with a catalogue's data, as opposed to its server: items and files that mislead."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from farm_intel.simulation.sensors import COLLECTIONS

Json = dict[str, Any]
_FOLDER = re.compile(f"({'|'.join(map(re.escape, COLLECTIONS.values()))})/")


@dataclass(frozen=True, slots=True, kw_only=True)
class DataFaults:
    """Injected faults; items are chosen by a regular expression searched in their id."""

    missing: tuple[tuple[str, str], ...] = ()
    """(items, asset key): the asset is not in the item."""
    renamed: tuple[tuple[str, str, str], ...] = ()
    """(items, asset key, other key): the asset has another key."""
    dead: tuple[tuple[str, str], ...] = ()
    """(items, asset key): the asset's file is gone."""
    duplicated: tuple[str, ...] = ()
    """The item is listed twice, as overlapping pages do."""
    reprocessed: tuple[str, ...] = ()
    """A second item of a later processing stands beside the item, with the same pixels."""
    wrong: tuple[tuple[str, str, object], ...] = ()
    """(items, property, value): the property has a wrong value; None removes it."""
    nodata_only: tuple[str, ...] = ()
    """The item's files hold nodata throughout."""


BLANK = "__blank__/"
"""Prefix of paths whose files are served with every pixel nodata."""
GONE = "__gone__/"
"""Prefix of paths that lead nowhere."""


def faulty_items(items: Iterable[Json], faults: DataFaults) -> list[Json]:
    """Return the items with the faults in them, in the same order; a reprocessing or duplicate follows its original."""
    out: list[Json] = []
    for item in items:
        own = copy.deepcopy(item)
        _harm_assets(own, faults)
        out.append(own)
        if _struck(own, faults.reprocessed):
            out.append(_later(own))
        if _struck(own, faults.duplicated):
            out.append(copy.deepcopy(own))
    for item in out:
        for pattern, name, value in faults.wrong:
            if not re.search(pattern, item["id"]):
                continue
            item["properties"].pop(name, None)
            if value is not None:
                item["properties"][name] = value
    return out


def _struck(item: Json, patterns: Iterable[str]) -> bool:
    return any(re.search(pattern, item["id"]) for pattern in patterns)


def _harm_assets(item: Json, faults: DataFaults) -> None:
    assets = item["assets"]
    if _struck(item, faults.nodata_only):
        for asset in assets.values():
            _prefix(asset, BLANK)
    for pattern, key in faults.dead:
        if re.search(pattern, item["id"]) and key in assets:
            _prefix(assets[key], GONE)
    for pattern, key in faults.missing:
        if re.search(pattern, item["id"]):
            assets.pop(key, None)
    for pattern, key, other in faults.renamed:
        if re.search(pattern, item["id"]) and key in assets:
            assets[other] = assets.pop(key)


def _prefix(asset: Json, prefix: str) -> None:
    """Put a prefix before the collection folder of every href of an asset."""
    places = [asset, *(asset.get("alternate") or {}).values()]
    for place in places:
        place["href"] = _FOLDER.sub(rf"{prefix}\1/", place["href"], count=1)


def _later(item: Json) -> Json:
    later = copy.deepcopy(item)
    later["id"] = f"{item['id']}_R2"
    properties = later["properties"]
    for name in ("updated", "created", "s2:generation_time", "processing:datetime"):
        if isinstance(properties.get(name), str):
            moment = datetime.fromisoformat(properties[name]) + timedelta(days=60)
            properties[name] = moment.isoformat().replace("+00:00", "Z")
    return later
