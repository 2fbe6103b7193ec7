"""What the event and the check of a fused cell say."""

from collections.abc import Sequence

import dagster as dg

from farm_intel.defs.cell_events import CellCheck, Metadata
from farm_intel.domain.assessment import Candidate, FusedObservation
from farm_intel.domain.fused_days import DISAGREEMENT
from farm_intel.domain.observations import Flag

AGREEMENT = "agreement"
AGREEMENT_DESCRIPTION = (
    "Per cell: the providers agree within the index's tolerance, none stood in for another, and one is usable. "
    "WARN otherwise; `because` says which."
)
MAX_CANDIDATES = 12
"""Candidates listed in an event; the store has them all."""


def describe_fused(fused: FusedObservation, stood_in: str = "") -> Metadata:
    """Return the metadata of a fused cell's materialisation: the value and how sure it is, then where it comes from.

    Args:
        fused: the stored value.
        stood_in: why another provider than the first was asked in this run; empty where the first one answered.

    """
    metadata: dict[str, dg.MetadataValue | str | bool | int | float] = {}
    if fused.value is not None:
        metadata["value"] = round(fused.value, 5)
    if fused.standard_error is not None:
        metadata["standard_error"] = round(fused.standard_error, 5)
    metadata |= {
        "confidence": round(fused.confidence, 4),
        "method": fused.method,
        "reason": fused.reason or "none",
        "flags": ", ".join(fused.flags) or "none",
        "candidates": dg.MetadataValue.md(candidates_table(fused.candidates)),
    }
    if stood_in:
        metadata["fallback"] = stood_in
    return metadata


def candidates_table(candidates: Sequence[Candidate]) -> str:
    """Return the candidates of a cell as a Markdown table."""
    rows = [
        f"| {c.key.provider} | {c.value:.4f} | {c.harmonised:.4f} | {c.confidence.value:.2f} "
        f"| {c.verdict.value} | {c.reason} |"
        for c in candidates[:MAX_CANDIDATES]
    ]
    if len(candidates) > MAX_CANDIDATES:
        rows.append(f"| and {len(candidates) - MAX_CANDIDATES} more | | | | | |")
    head = ["| provider | value | harmonised | confidence | verdict | reason |", "|---|---|---|---|---|---|"]
    return "\n".join([*head, *rows])


def judge_fused(fused: FusedObservation, stood_in: str = "") -> CellCheck:
    """Return the agreement check of a fused cell.

    Args:
        fused: the stored value.
        stood_in: as for `describe_fused`.

    """
    usable = fused.value is not None
    agree = DISAGREEMENT not in fused.flags
    fallback = bool(stood_in) or Flag.FALLBACK_PROVIDER.value in fused.flags
    parts = {
        f"no usable value: {fused.reason}": not usable,
        f"providers disagree: {fused.reason}": usable and not agree,
        f"a provider stands in for another: {stood_in or 'see the cell of the provider'}": fallback,
    }
    because = "; ".join(words for words, applies in parts.items() if applies)
    metadata: dict[str, str | bool | int | float] = {
        "usable": usable,
        "providers_agree": agree,
        "fallback": fallback,
        "confidence": round(fused.confidence, 4),
        "candidates": len(fused.candidates),
    }
    if because:
        metadata["because"] = because
    return CellCheck(name=AGREEMENT, passed=not because, metadata=metadata)
