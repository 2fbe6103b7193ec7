"""The checks behind `farm-intel doctor`; each ends in one finding and never in a traceback."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from importlib.metadata import PackageNotFoundError, version

from farm_intel.bootstrap import Container, container_from_environment, ignored_inputs
from farm_intel.cli.doctoring_telling import TELLING_CHECKS
from farm_intel.cli.finding import Finding
from farm_intel.domain.errors import FarmIntelError, NotConfiguredError
from farm_intel.domain.geo import union_bbox
from farm_intel.domain.scenes import SceneQuery

MIN_FREE_BYTES = 1 << 30


def diagnose() -> list[Finding]:
    """Run every check; a failed one does not stop the others unless they need what it checks."""
    findings = list(_installation())
    try:
        container = container_from_environment()
    except NotConfiguredError as error:
        return [*findings, Finding(check="settings", result="wrong", detail=error.message, advice=error.hint)]
    findings.append(_settings(container))
    checks = (_disk, _store, _rasters, _farms, _indices, _provider_order, _catalogue, _extras, *TELLING_CHECKS)
    return [*findings, *(_guarded(check, container) for check in checks)]


def _guarded(check: Callable[[Container], Finding], container: Container) -> Finding:
    try:
        return check(container)
    except FarmIntelError as error:
        return Finding(
            check=check.__name__.strip("_"),
            result="wrong",
            detail=error.message,
            advice=error.hint or "fix what the detail names and run doctor again",
        )
    except OSError as error:
        return Finding(
            check=check.__name__.strip("_"),
            result="wrong",
            detail=f"{error.filename or container.settings.home}: {error.strerror or error}",
            advice="check the path and its permissions, or point FARM_INTEL_HOME elsewhere",
        )


def _settings(container: Container) -> Finding:
    ignored = ignored_inputs()
    return Finding(
        check="settings",
        result="note" if ignored else "fine",
        detail=f"home {container.settings.home}" + (f"; without effect: {', '.join(ignored)}" if ignored else ""),
        advice="docs/settings.md lists the settings" if ignored else "",
    )


def _installation() -> Iterator[Finding]:
    yield Finding(
        check="python",
        result="fine" if sys.version_info >= (3, 12) else "wrong",
        detail=sys.version.split()[0],
        advice="" if sys.version_info >= (3, 12) else "Python 3.12 is needed",
    )
    for package in ("dagster", "rasterio", "numba", "obstore", "deflate", "stackstac"):
        try:
            yield Finding(check=package, result="fine", detail=version(package))
        except PackageNotFoundError:
            yield Finding(check=package, result="wrong", detail="not installed", advice="run `make setup`")


def _disk(container: Container) -> Finding:
    home = container.settings.home
    home.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(home).free
    return Finding(
        check="disk",
        result="fine" if free > MIN_FREE_BYTES else "wrong",
        detail=f"{free / 2**30:.1f} GiB free under {home}",
        advice="" if free > MIN_FREE_BYTES else "make room, or point FARM_INTEL_HOME elsewhere",
    )


def _store(container: Container) -> Finding:
    database = container.database
    return Finding(check="store", result="fine", detail=f"{database.dialect.name}, migrated")


def _rasters(container: Container) -> Finding:
    container.rasters.objects("00")  # asks: a bucket may be missing or closed to us
    return Finding(check="rasters", result="fine", detail=f"kept at {container.rasters.place}")


def _farms(container: Container) -> Finding:
    count = len(container.farms.list())
    return Finding(
        check="farms",
        result="fine" if count else "note",
        detail=f"{count} farms",
        advice="" if count else "`farm-intel farms import FILE` brings some",
    )


def _indices(container: Container) -> Finding:
    chosen = container.registry.select(container.settings.asset_indices)
    silent = [index.slug for index in chosen if index.interpretation is None]
    return Finding(
        check="indices",
        result="note" if silent else "fine",
        detail=f"{len(chosen)} assets of {len(container.registry.list())} indices",
        advice=f"no interpretation: {', '.join(silent)}" if silent else "",
    )


def _provider_order(container: Container) -> Finding:
    known = {index.slug for index in container.registry.list()}
    wrong = [slug for slug in container.settings.provider_order if slug not in known]
    return Finding(
        check="providers",
        result="wrong" if wrong else "fine",
        detail=f"an order for {', '.join(wrong)}, which is no index"
        if wrong
        else ", ".join(source.name for source in container.sources),
        advice="correct FARM_INTEL_PROVIDER_ORDER; `farm-intel indices list` names the slugs" if wrong else "",
    )


def _catalogue(container: Container) -> Finding:
    missing = container.sources[0].missing_settings
    if missing:
        return Finding(
            check="catalogue",
            result="note",
            detail=f"{container.settings.provider}: {', '.join(missing)} not set",
            advice="docs/providers.md says what belongs there; `farm-intel demo` brings its own catalogue",
        )
    farms = container.farms.list()
    provider = container.providers[container.settings.provider]
    if not farms:
        return Finding(check="catalogue", result="note", detail="not asked: there are no farms to ask for")
    today = container.observing.clock.now().date()
    first = container.settings.history_start or today - timedelta(days=container.settings.sensor_lookback_days)
    answer = provider.catalog.search(
        SceneQuery(
            collection=provider.profile.collection,
            bbox=union_bbox(farm.bbox for farm in farms[:1]),
            start=first,
            end=container.settings.history_end or today,
        ),
    )
    problems = len(answer.problems) + sum(len(scene.problems) for scene in answer.scenes)
    return Finding(
        check="catalogue",
        result="fine" if answer.scenes and not problems else "note",
        detail=f"{len(answer.scenes)} scenes over {farms[0].farm_id} since {first}, {problems} problems",
        advice=_catalogue_advice(len(answer.scenes), problems),
    )


def _catalogue_advice(scenes: int, problems: int) -> str:
    if not scenes:
        return "is this the right catalogue, collection and time for the farms?"
    return "`farm-intel explain` names the items that cannot be used" if problems else ""


def _extras(_container: Container) -> Finding:
    absent = []
    for package in ("sentinelhub", "earthengine-api"):
        try:
            version(package)
        except PackageNotFoundError:
            absent.append(package)
    return Finding(
        check="extras",
        result="note" if absent else "fine",
        detail=f"not installed: {', '.join(absent)}" if absent else "all installed",
        advice="`make setup` installs them" if absent else "",
    )
