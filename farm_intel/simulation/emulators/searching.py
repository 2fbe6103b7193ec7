"""Item search over a list of items: every filter of the STAC API, and a refusal of everything else."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from shapely.geometry import box, shape
from shapely.geometry.base import BaseGeometry

Json = dict[str, Any]
KNOWN = frozenset(
    {"collections", "ids", "bbox", "intersects", "datetime", "query", "filter", "filter-lang", "sortby", "fields"}
    | {"limit", "token", "next", "conf", "filter-crs"}
)
_OPERATORS: Mapping[str, Callable[[Any, Any], bool]] = {
    "eq": lambda a, b: a == b,
    "neq": lambda a, b: a != b,
    "lt": lambda a, b: a < b,
    "lte": lambda a, b: a <= b,
    "gt": lambda a, b: a > b,
    "gte": lambda a, b: a >= b,
    "in": lambda a, b: a in b,
    "startsWith": lambda a, b: str(a).startswith(b),
    "endsWith": lambda a, b: str(a).endswith(b),
    "contains": lambda a, b: b in str(a),
}


class SearchRefusedError(ValueError):
    """The request is one the real catalogue would answer with 400."""


def matching(items: Sequence[Json], request: Mapping[str, Any], *, query_operators: frozenset[str]) -> list[Json]:
    """Return the items a search request asks for, sorted, before paging and field selection.

    Args:
        items: all items.
        request: body of a POST, or a GET's parameters in the same form.
        query_operators: operators of the query extension this catalogue knows.

    Raises:
        SearchRefusedError: the request is malformed or asks for something unknown.

    """
    unknown = sorted(set(request) - KNOWN)
    if unknown:
        raise SearchRefusedError(f"unknown search parameters: {', '.join(unknown)}")
    found = list(items)
    if request.get("collections"):
        found = [item for item in found if item["collection"] in request["collections"]]
    if request.get("ids"):
        found = [item for item in found if item["id"] in request["ids"]]
    area = _area(request)
    if area is not None:
        found = [item for item in found if shape(item["geometry"]).intersects(area)]
    if request.get("datetime"):
        start, end = _interval(str(request["datetime"]))
        found = [item for item in found if _overlaps(item, start, end)]
    found = _queried(found, request.get("query") or {}, query_operators)
    if request.get("filter"):
        found = _filtered(found, request)
    return _sorted(found, request.get("sortby"))


def _area(request: Mapping[str, Any]) -> BaseGeometry | None:
    if request.get("bbox") and request.get("intersects"):
        raise SearchRefusedError("only one of bbox and intersects may be given")
    if request.get("intersects"):
        try:
            return shape(request["intersects"])
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise SearchRefusedError(f"intersects is no geometry: {error}") from error
    if not request.get("bbox"):
        return None
    try:
        values = [float(value) for value in request["bbox"]]
    except (TypeError, ValueError) as error:
        raise SearchRefusedError(f"bbox must be numbers: {request['bbox']!r}") from error
    if len(values) not in {4, 6}:
        raise SearchRefusedError(f"bbox has {len(values)} numbers; 4 or 6 are allowed")
    west, south = values[0], values[1]
    east, north = (values[2], values[3]) if len(values) == 4 else (values[3], values[4])
    if south > north:
        raise SearchRefusedError("bbox has its south above its north")
    if west > east:
        return box(west, south, 180.0, north).union(box(-180.0, south, east, north))
    return box(west, south, east, north)


def _interval(text: str) -> tuple[datetime | None, datetime | None]:
    first, slash, last = text.partition("/")
    start, end = _time(first), _time(last if slash else first)
    if start is not None and end is not None and start > end:
        raise SearchRefusedError(f"datetime {text!r} ends before it begins")
    if slash and start is None and end is None:
        raise SearchRefusedError(f"datetime {text!r} is open on both sides")
    return start, end


def _time(text: str) -> datetime | None:
    if text in {"", ".."}:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise SearchRefusedError(f"datetime {text!r} is no RFC 3339 time") from error
    if moment.tzinfo is None:
        raise SearchRefusedError(f"datetime {text!r} has no zone, as RFC 3339 wants")
    return moment.astimezone(UTC)


def _overlaps(item: Json, start: datetime | None, end: datetime | None) -> bool:
    properties = item["properties"]
    first = datetime.fromisoformat(properties["datetime"] or properties["start_datetime"])
    last = datetime.fromisoformat(properties["datetime"] or properties["end_datetime"])
    return (end is None or first <= end) and (start is None or last >= start)


def _queried(items: list[Json], query: Mapping[str, Any], operators: frozenset[str]) -> list[Json]:
    for name, conditions in query.items():
        for operator, value in conditions.items():
            if operator not in operators:
                raise SearchRefusedError(
                    f"query has no operator {operator!r}; there are {', '.join(sorted(operators))}"
                )
            compare = _OPERATORS[operator]
            items = [
                item
                for item in items
                if item["properties"].get(name) is not None and compare(item["properties"][name], value)
            ]
    return items


def _filtered(items: list[Json], request: Mapping[str, Any]) -> list[Json]:
    import cql2

    given = request["filter"]
    language = request.get("filter-lang") or ("cql2-text" if isinstance(given, str) else "cql2-json")
    if language not in {"cql2-text", "cql2-json"}:
        raise SearchRefusedError(f"filter-lang {language!r} is not spoken here")
    if (language == "cql2-text") != isinstance(given, str):
        raise SearchRefusedError(f"filter does not look like {language}")
    try:
        expression = cql2.parse_text(given) if language == "cql2-text" else cql2.parse_json(json.dumps(given))
        return [item for item in items if expression.matches(item)]
    except (ValueError, cql2.ParseError, cql2.ValidationError) as error:
        raise SearchRefusedError(f"filter cannot be evaluated: {error}") from error


def _sorted(items: list[Json], sortby: object) -> list[Json]:
    if sortby is None:
        return sorted(items, key=lambda item: (_value(item, "datetime"), item["id"]), reverse=True)
    if not isinstance(sortby, list) or not all(isinstance(entry, Mapping) and entry.get("field") for entry in sortby):
        raise SearchRefusedError("sortby must be a list of objects with a field")
    for entry in reversed(sortby):
        direction = entry.get("direction", "asc")
        if direction not in {"asc", "desc"}:
            raise SearchRefusedError(f"sortby has no direction {direction!r}")
        name = str(entry["field"]).removeprefix("properties.")
        items = sorted(items, key=lambda item: _value(item, name), reverse=direction == "desc")
    return items


def _value(item: Json, name: str) -> tuple[int, float, str]:
    value = item["properties"].get(name)
    if value is None:
        value = item["properties"].get("start_datetime") if name == "datetime" else item.get(name)
    if isinstance(value, int | float):
        return 1, float(value), ""
    return (2, 0.0, str(value)) if value is not None else (0, 0.0, "")


def with_fields(item: Json, fields: object) -> Json:
    """Return the item reduced to the fields extension's include and exclude lists.

    Raises:
        SearchRefusedError: the lists are malformed.

    """
    if not fields:
        return item
    if not isinstance(fields, Mapping) or set(fields) - {"include", "exclude"}:
        raise SearchRefusedError("fields must be an object with include and exclude")
    include, exclude = list(fields.get("include") or []), list(fields.get("exclude") or [])
    chosen: Json = item
    if include:
        chosen = {}
        for path in ("id", "type", "collection", "geometry", "bbox", "links", "stac_version", *include):
            _copy(item, chosen, str(path).split("."))
    chosen = json.loads(json.dumps(chosen))
    for path in exclude:
        _drop(chosen, str(path).split("."))
    return chosen


def _copy(source: Json, target: Json, path: list[str]) -> None:
    if path[0] not in source:
        return
    if len(path) == 1:
        target[path[0]] = source[path[0]]
    elif isinstance(source[path[0]], dict):
        _copy(source[path[0]], target.setdefault(path[0], {}), path[1:])


def _drop(target: Json, path: list[str]) -> None:
    if len(path) == 1:
        target.pop(path[0], None)
    elif isinstance(target.get(path[0]), dict):
        _drop(target[path[0]], path[1:])
