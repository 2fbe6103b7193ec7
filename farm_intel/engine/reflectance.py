"""The only door from digital number to surface reflectance: which offset applies, and whether the pixels agree.

Sentinel-2 L2A adds 1000 to every digital number from processing baseline 04.00 on (ESA, S2-PDGS-MPC-L2A-DFI, 2022), so
that dark pixels cannot clip at zero. Some catalogues take it out again; some say so wrongly. A forgotten or doubled
offset shifts an index by 0.15 to 0.26 and looks plausible, hence the pixels are asked where metadata can be wrong.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from farm_intel.domain.errors import SceneProblemError, SceneProblemKind
from farm_intel.domain.observations import Flag
from farm_intel.domain.products import CollectionProfile, OffsetRule, RadiometryRule
from farm_intel.domain.scenes import BandFile, Scene

DARK_BANDS = ("blue", "coastal", "green")
"""Bands whose clear land pixels are dark enough to show the offset, darkest known first; red of bare soil is not."""
_OFFSET_BASELINE = (4, 0)
_BASELINE = re.compile(r"(\d{1,2})\.?(\d{2})?")
_OFFSET_SINCE = datetime(2022, 1, 25, tzinfo=UTC)
"""First day of baseline 04.00; used only where a catalogue tells no baseline."""


class MetadataState(StrEnum):
    """How far the catalogue's statements about the offset can be relied on."""

    CONSISTENT = "consistent"
    SILENT = "silent"
    """It says nothing that decides."""
    INCONSISTENT = "inconsistent"
    """Two of its statements exclude each other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Radiometry:
    """How one band of one scene becomes surface reflectance: rho = DN * scale + offset."""

    scale: float
    offset: float
    source: str
    """Which statement decided."""
    present_offset: float
    """The offset that applies if the pixels turn out to carry it."""
    state: MetadataState = MetadataState.CONSISTENT
    needs_probe: bool = False

    @property
    def rule(self) -> str:
        """One phrase for people, e.g. `scale 0.0001 offset -0.1 (baseline)`."""
        return f"scale {self.scale:g} offset {self.offset:g} ({self.source})"


def resolve_radiometry(profile: CollectionProfile, scene: Scene, band: BandFile) -> Radiometry:
    """Return what the metadata says about a band; `needs_probe` where the pixels should be asked.

    Rules: FIXED takes the profile; DECLARED the file's own scale and offset; FLAG the claim that the offset was
    removed, which beats a declared offset (Earth Search declares -0.1 throughout); BASELINE the processing baseline.
    Products before baseline 04.00 never carry the offset, whatever is declared; such a baseline on a scene taken after
    04.00 began is doubted.
    """
    rule = profile.radiometry
    scale = rule.scale
    if rule.offset_rule is not OffsetRule.FIXED and band.declared_scale:
        scale = band.declared_scale
    declared = band.declared_offset
    present = declared or rule.offset
    decide = {
        OffsetRule.FIXED: _fixed,
        OffsetRule.DECLARED: _declared,
        OffsetRule.FLAG: _flagged,
        OffsetRule.BASELINE: _by_baseline,
    }[rule.offset_rule]
    carried, source, state = decide(scene, declared)
    applied = present if carried else 0.0
    if rule.offset_rule is OffsetRule.FIXED:
        applied = rule.offset
    return Radiometry(
        scale=scale,
        offset=applied,
        source=source,
        present_offset=present,
        state=state,
        needs_probe=_wants_probe(rule, scene, state, declared),
    )


type _Decision = tuple[bool, str, MetadataState]


def _fixed(scene: Scene, declared: float | None) -> _Decision:  # noqa: ARG001 - one signature for all rules
    return True, "profile", MetadataState.CONSISTENT


def _declared(scene: Scene, declared: float | None) -> _Decision:
    if declared is None:
        carried, source, _ = _by_baseline(scene, declared)
        return carried, f"nothing declared, {source}", MetadataState.SILENT
    if declared and scene.offset_applied:
        return True, "declared", MetadataState.INCONSISTENT
    return bool(declared), "declared", MetadataState.CONSISTENT


def _flagged(scene: Scene, declared: float | None) -> _Decision:
    if scene.offset_applied:
        return False, "flag", MetadataState.CONSISTENT
    if _before_offset(scene) is True:
        # no scene taken since then has such a baseline
        doubted = scene.offset_applied is False and scene.acquired_at >= _OFFSET_SINCE
        state = MetadataState.INCONSISTENT if doubted else MetadataState.CONSISTENT
        return doubted, "flag" if doubted else "baseline", state
    if scene.offset_applied is None:
        if declared == 0.0:
            return False, "declared, no flag", MetadataState.CONSISTENT
        carried, source, _ = _by_baseline(scene, declared)
        return carried, f"no flag, {source}", MetadataState.SILENT
    if declared == 0.0:
        return True, "flag", MetadataState.INCONSISTENT
    return True, "flag", MetadataState.CONSISTENT


def _by_baseline(scene: Scene, declared: float | None) -> _Decision:  # noqa: ARG001 - one signature for all rules
    before = _before_offset(scene)
    if before is None:
        return scene.acquired_at >= _OFFSET_SINCE, "acquisition date", MetadataState.SILENT
    return not before, "baseline", MetadataState.CONSISTENT


def _before_offset(scene: Scene) -> bool | None:
    """Return whether the processing baseline (`04.00`, `N0400`) is older than 04.00, None where it is not told."""
    match = _BASELINE.search(scene.processing_baseline or "")
    if match is None:
        return None
    return (int(match[1]), int(match[2] or 0)) < _OFFSET_BASELINE


def _wants_probe(rule: RadiometryRule, scene: Scene, state: MetadataState, declared: float | None) -> bool:
    if not rule.probe or rule.offset_rule is OffsetRule.FIXED:
        return False
    if state is not MetadataState.CONSISTENT:
        return True
    # a baseline older than the offset on a newer scene is a slip of the catalogue, or the scene's own: ask the pixels
    if rule.offset_rule is OffsetRule.DECLARED or (_before_offset(scene) is True and scene.acquired_at < _OFFSET_SINCE):
        return False
    two_statements_agree = bool(scene.offset_applied) and declared == 0.0
    return not two_statements_agree


class ProbeVerdict(StrEnum):
    """What the pixels say about the offset."""

    IN_PIXELS = "offset_in_pixels"
    REMOVED = "offset_removed"
    UNDECIDED = "undecided"
    NO_CLEAR_PIXELS = "no_clear_pixels"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeResult:
    """What the pixels of a dark band say, with the numbers it rests on."""

    verdict: ProbeVerdict
    clear_pixels: int
    below_fraction: float
    """Share of clear pixels darker than the offset."""
    darkest_percent: float
    """First percentile of the clear digital numbers."""


_OFFSET_DN = 1000
_FEWEST_CLEAR = 20
_ENOUGH_CLEAR = 400
_REMOVED_SHARE = 0.05
"""Over-corrected shadow and water may fall below the offset, but not one clear land pixel in twenty."""
_CARRIED_SHARE = 0.002
_CARRIED_P1 = _OFFSET_DN + 350
"""With the offset in, the darkest hundredth of clear land has a blue reflectance of 0 to 0.035; without it would be
0.10 to 0.135, which not even a desert tile's darkest hundredth reaches."""


def probe_offset(dark: npt.NDArray[np.generic], clear: npt.NDArray[np.bool_]) -> ProbeResult:
    """Return whether the +1000 offset is in the pixels of a dark band.

    Args:
        dark: digital numbers of the darkest band, any shape; 0 is nodata.
        clear: same shape, True where the mask calls the pixel clear.

    """
    numbers = dark.astype(np.float64)[clear & (dark != 0)]
    if numbers.size < _FEWEST_CLEAR:
        return ProbeResult(
            verdict=ProbeVerdict.NO_CLEAR_PIXELS,
            clear_pixels=int(numbers.size),
            below_fraction=float("nan"),
            darkest_percent=float("nan"),
        )
    below = float((numbers < _OFFSET_DN).mean())
    darkest = float(np.percentile(numbers, 1))
    verdict = ProbeVerdict.UNDECIDED
    if below >= _REMOVED_SHARE:
        verdict = ProbeVerdict.REMOVED
    elif numbers.size >= _ENOUGH_CLEAR and below <= _CARRIED_SHARE and darkest <= _CARRIED_P1:
        verdict = ProbeVerdict.IN_PIXELS
    return ProbeResult(verdict=verdict, clear_pixels=int(numbers.size), below_fraction=below, darkest_percent=darkest)


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneRadiometry:
    """The decided radiometry of a scene's bands."""

    bands: dict[str, Radiometry]
    flags: frozenset[Flag]

    @property
    def rule(self) -> str:
        """One phrase for people; bands that differ are listed."""
        rules: dict[str, list[str]] = {}
        for name, radiometry in self.bands.items():
            rules.setdefault(radiometry.rule, []).append(name)
        if len(rules) == 1:
            return next(iter(rules))
        return "; ".join(f"{', '.join(names)}: {rule}" for rule, names in rules.items())


def decide_radiometry(scene_id: str, bands: dict[str, Radiometry], probe: ProbeResult | None) -> SceneRadiometry:
    """Return the radiometry to apply, from metadata and, where it was asked, from the pixels.

    Args:
        scene_id: for the error.
        bands: what the metadata says, by common name.
        probe: what the pixels say; None where no probe was needed or no dark band exists.

    Raises:
        SceneProblemError: metadata contradict each other or are silent, and the pixels do not decide.

    """
    if not any(radiometry.needs_probe for radiometry in bands.values()):
        return SceneRadiometry(bands=bands, flags=frozenset())
    doubtful = any(radiometry.state is not MetadataState.CONSISTENT for radiometry in bands.values())
    if probe is None or probe.verdict is ProbeVerdict.NO_CLEAR_PIXELS:
        return SceneRadiometry(bands=bands, flags=frozenset({Flag.RADIOMETRY_UNVERIFIED} if doubtful else ()))
    if probe.verdict is ProbeVerdict.UNDECIDED:
        if doubtful:
            raise SceneProblemError(
                SceneProblemKind.RADIOMETRY_UNDECIDED,
                scene_id,
                f"the metadata do not say reliably whether the offset is in the pixels, and neither do the pixels "
                f"({probe.clear_pixels} clear, {probe.below_fraction:.1%} below {_OFFSET_DN}, "
                f"darkest hundredth {probe.darkest_percent:.0f})",
                hint="Use another processing of the scene or another catalogue.",
            )
        return SceneRadiometry(bands=bands, flags=frozenset())
    carried = probe.verdict is ProbeVerdict.IN_PIXELS
    agreed = all((radiometry.offset != 0.0) == carried for radiometry in bands.values())
    if agreed and not doubtful:
        return SceneRadiometry(bands=bands, flags=frozenset())
    probed = {
        name: replace(radiometry, offset=radiometry.present_offset if carried else 0.0, source="pixel probe")
        for name, radiometry in bands.items()
    }
    return SceneRadiometry(bands=probed, flags=frozenset({Flag.RADIOMETRY_PROBED}))
