"""The faults of the matrix, and what each may rightly end in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from farm_intel.domain.errors import (
    FarmIntelError,
    NotConfiguredError,
    PermanentError,
    ThrottledError,
    TransientError,
)
from farm_intel.simulation.emulators.data_faults import DataFaults
from farm_intel.simulation.emulators.faults import Fault, FaultKind, http_date_in

ONCE, MIDWAY, ALWAYS = "once", "midway", "always"
"""The first request, the second, or every one is struck."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultRow:
    """One way in which a server's answers go wrong."""

    name: str
    kind: FaultKind
    passing: bool = True
    """The same request may succeed when repeated: struck once, the run ends in the right answer."""
    harmless: bool = False
    """Even struck always, the answer is right."""
    raises: type[FarmIntelError] = TransientError
    """What a run that asks nobody else ends in where every request is struck."""
    retry_after: Callable[[], str] | None = None
    too_long: bool = False
    """The pause that is asked for may be longer than anybody waits."""
    delay_s: float = 0.0
    patient: bool = False
    """Time limits of single calls are longer than the whole deadline, so that only the deadline can end the run."""

    def fault(self, path: str, mode: str) -> Fault:
        """Return the rule that strikes requests to a path."""
        return Fault(
            kind=self.kind,
            path=path,
            times=0 if mode == ALWAYS else 1,
            after=1 if mode == MIDWAY else 0,
            retry_after=self.retry_after() if self.retry_after else None,
            delay_s=self.delay_s,
        )


FAULTS: tuple[FaultRow, ...] = (
    FaultRow(name="401", kind=FaultKind.UNAUTHORIZED, passing=False, raises=NotConfiguredError),
    FaultRow(name="403", kind=FaultKind.FORBIDDEN, passing=False, raises=NotConfiguredError),
    FaultRow(name="404", kind=FaultKind.NOT_FOUND, passing=False, raises=PermanentError),
    FaultRow(name="409", kind=FaultKind.CONFLICT, passing=False, raises=FarmIntelError),
    FaultRow(name="429", kind=FaultKind.THROTTLED, raises=ThrottledError),
    FaultRow(name="429, seconds", kind=FaultKind.THROTTLED, raises=ThrottledError, retry_after=lambda: "1"),
    FaultRow(
        name="429, HTTP date", kind=FaultKind.THROTTLED, raises=ThrottledError, retry_after=lambda: http_date_in(0.5)
    ),
    FaultRow(
        name="429, milliseconds",
        kind=FaultKind.THROTTLED,
        raises=ThrottledError,
        retry_after=lambda: "800",
        too_long=True,
    ),
    FaultRow(name="429, garbage", kind=FaultKind.THROTTLED, raises=ThrottledError, retry_after=lambda: "soon"),
    FaultRow(name="500", kind=FaultKind.SERVER_ERROR),
    FaultRow(name="502 HTML", kind=FaultKind.HTML_BAD_GATEWAY),
    FaultRow(name="503", kind=FaultKind.UNAVAILABLE),
    FaultRow(name="503, seconds", kind=FaultKind.UNAVAILABLE, retry_after=lambda: "1"),
    FaultRow(name="504", kind=FaultKind.GATEWAY_TIMEOUT),
    FaultRow(name="no answer", kind=FaultKind.TIMEOUT),
    FaultRow(name="no answer, patient", kind=FaultKind.TIMEOUT, patient=True),
    FaultRow(name="reset", kind=FaultKind.RESET),
    FaultRow(name="truncated", kind=FaultKind.TRUNCATED),
    FaultRow(name="slow", kind=FaultKind.SLOW, delay_s=0.02, harmless=True),
    FaultRow(name="too slow, patient", kind=FaultKind.SLOW, delay_s=1.5, patient=True),
    FaultRow(name="empty 200", kind=FaultKind.EMPTY),
    FaultRow(name="HTML 200", kind=FaultKind.HTML),
    FaultRow(name="broken JSON", kind=FaultKind.INVALID_JSON),
)

RIGHT, FAILED_DAY, FAILED_ALL, NO_DATA, EITHER = "right", "day fails", "all fails", "no number", "right or day fails"
"""What wrong data end in for a run that asks one provider; what is struck are the scenes of its first day."""


BAND: Mapping[str, str] = {"stac": "nir", "landsat": "nir08", "modis": "sur_refl_b02"}
"""Column -> an asset its index cannot do without."""
SCENES: Mapping[str, str] = {"stac": "20260104", "landsat": "20260107", "modis": "A2026009"}
"""Column -> pattern of the ids of its first day's items."""
_FILES = tuple(BAND)


@dataclass(frozen=True, slots=True, kw_only=True)
class DataRow:
    """One way in which a catalogue's data mislead."""

    name: str
    faults: Callable[[str, str], DataFaults] = lambda _scenes, _asset: DataFaults()
    """Pattern of the struck items' ids and an asset -> what is wrong with them."""
    ends: str = RIGHT
    sas_ttl_s: float | None = None
    columns: tuple[str, ...] = _FILES


def _wrong(name: str, value: object) -> Callable[[str, str], DataFaults]:
    return lambda scenes, _: DataFaults(wrong=((scenes, name, value),))


DATA_FAULTS: tuple[DataRow, ...] = (
    DataRow(name="expired signatures", sas_ttl_s=-1.0, ends=FAILED_ALL, columns=("landsat", "modis")),
    DataRow(name="missing asset", faults=lambda s, a: DataFaults(missing=((s, a),)), ends=FAILED_DAY),
    DataRow(name="renamed asset", faults=lambda s, a: DataFaults(renamed=((s, a, f"{a}_v2"),)), ends=EITHER),
    DataRow(name="dead link", faults=lambda s, a: DataFaults(dead=((s, a),)), ends=FAILED_DAY),
    DataRow(name="duplicate items", faults=lambda s, _: DataFaults(duplicated=(s,))),
    DataRow(name="reprocessed items", faults=lambda s, _: DataFaults(reprocessed=(s,))),
    DataRow(name="wrong projection", faults=_wrong("proj:epsg", 32601)),
    DataRow(name="no projection", faults=_wrong("proj:epsg", None), columns=("stac", "landsat")),
    DataRow(name="wrong cloud cover", faults=_wrong("eo:cloud_cover", 100.0), columns=("stac", "landsat")),
    DataRow(name="no cloud cover", faults=_wrong("eo:cloud_cover", None), columns=("stac", "landsat")),
    DataRow(
        name="wrong processing baseline",
        faults=_wrong("s2:processing_baseline", "02.08"),
        ends=EITHER,
        columns=("stac",),
    ),
    DataRow(name="wrong offset flag", faults=_wrong("earthsearch:boa_offset_applied", False), columns=("stac",)),
    DataRow(name="nodata only", faults=lambda s, _: DataFaults(nodata_only=(s,)), ends=NO_DATA),
)
