"""Writes farm_intel/indices/catalogue.json from the installed spyndex (Awesome Spectral Indices, MIT licence).

Development only: `.venv/bin/python tools/make_index_catalogue.py` (add `--check` to only compare).
spyndex shares one table of constants among all indices (L = 1 for EVI and SAVI alike); here every index gets its own.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import spyndex

from farm_intel.indices.formula import BAND_SYMBOLS, parse_formula
from farm_intel.indices.ranges import default_range

TARGET = Path(__file__).parents[1] / "farm_intel" / "indices" / "catalogue.json"

SLUGS = {"BaI": "bai_bareness", "mSR705": "msr705_modified"}
"""Names that differ from another only by case; all others are lower-cased."""

WAVELENGTH_NOTE = "Central wavelengths of Sentinel-2A in nm (spyndex bands.json)."
WAVELENGTHS = {
    "lambdaG": 559.8,
    "lambdaR": 664.6,
    "lambdaN": 832.8,
    "lambdaN2": 864.7,
    "lambdaS1": 1613.7,
    "lambdaS2": 2202.4,
}

SOIL_LINE_NOTE = "Soil line slope 1 and intercept 0: measure your own soils' line for better results."
MONTH_NOTE = "Weights the reference found for April scenes; it gives others for August or November."

CONSTANTS: dict[str, tuple[dict[str, float], str]] = {
    # Values per index from Awesome Spectral Indices v1 (output/v1/constants.json), which took them from the
    # references; differences are explained where they are made.
    "ARVI": ({"gamma": 1.0}, ""),
    "ATSAVI": ({"sla": 1.0, "slb": 0.0}, SOIL_LINE_NOTE),
    # v1 gives 0.01 for dense stands; 0.1 is its value for low to moderate biomass, where most fields are.
    "BWDRVI": ({"alpha": 0.1}, "alpha 0.1 for low to moderate biomass; 0.05 moderate, 0.01 dense."),
    "CRSWIR": ({}, WAVELENGTH_NOTE),
    "DVIplus": ({}, WAVELENGTH_NOTE),
    "EBI": ({"epsilon": 1.0}, ""),
    "EVI": ({"g": 2.5, "C1": 6.0, "C2": 7.5, "L": 1.0}, ""),
    "EVI2": ({"g": 2.5, "L": 1.0}, ""),
    "FAI": ({}, WAVELENGTH_NOTE),
    "FDI": ({}, WAVELENGTH_NOTE),
    "GDVI": ({"nexp": 2.0}, ""),
    "GRARI": ({"eta": 0.5, "lmb": 1.0}, ""),
    "GSAVI": ({"L": 0.5}, ""),
    "IAVI": ({"gamma": 1.0}, ""),
    "IBI": ({"L": 0.5}, ""),
    "MBWI": ({"omega": 2.0}, ""),
    "MNLI": ({"L": 0.5}, ""),
    "NDGI": ({}, WAVELENGTH_NOTE),
    "NDPI": ({"alpha": 0.74}, ""),
    "NDSInw": ({"beta": 0.05}, ""),
    "NDTI4RE": ({"gamma": 0.4}, MONTH_NOTE),
    "NDVI4RE": ({"alpha": 0.2, "beta": 0.2}, MONTH_NOTE),
    "NDWIns": ({"alpha": 2.0}, ""),
    "NIRvH2": ({"k": 0.0}, "k, the soil's slope per nm, is 0: fit your own soils'. " + WAVELENGTH_NOTE),
    # c is fitted per sensor and crop; 1 makes it equal CVI, as v1 has it.
    "OCVI": ({"cexp": 1.0}, "cexp 1 equals CVI; the reference fits it per sensor and leaf angle (0.64 to 1.74)."),
    "RVI4RE": ({"alpha": 0.3, "beta": 0.3}, MONTH_NOTE),
    "RWI": ({"n": 5.0}, "The reference derives n from the scene's green band; 5 is the catalogue's stand-in."),
    "SARVI": ({"L": 0.5}, ""),
    "SAVI": ({"L": 0.5}, ""),
    "SAVI2": ({"sla": 1.0, "slb": 0.0}, SOIL_LINE_NOTE),
    "SAVI4RE": ({"alpha": 0.2, "beta": 0.2}, MONTH_NOTE),
    "SEVI": ({"fdelta": 0.581}, ""),
    "SNDTI": ({"L": 0.6}, ""),
    "SNDTI4RE": ({"gamma": 0.4}, MONTH_NOTE),
    "STI4RE": ({"gamma": 0.4}, MONTH_NOTE),
    "TSAVI": ({"sla": 1.0, "slb": 0.0}, SOIL_LINE_NOTE),
    "WCI1": ({"epsilon": 1e-10}, ""),
    "WCI2": ({"epsilon": 1e-10}, ""),
    "WDRVI": ({"alpha": 0.1}, ""),
    "WDVI": ({"sla": 1.0}, SOIL_LINE_NOTE),
    "kEVI": ({"g": 2.5, "C1": 6.0, "C2": 7.5, "L": 1.0, "sigma": 0.5}, "RBF kernel with sigma 0.5."),
    "kVARI": ({"sigma": 0.5}, "RBF kernel with sigma 0.5."),
    "sNIRvNDPI": ({"alpha": 0.74}, ""),
}

PIXEL_SIGMA = "(0.5 * (N + R))"
PIXEL_SIGMA_NOTE = "RBF kernel with sigma = (N + R) / 2 per pixel, the reference's own choice."
KERNEL_SIGMA = {"kNDVI": PIXEL_SIGMA, "kRVI": PIXEL_SIGMA, "kIPVI": PIXEL_SIGMA, "kEVI": "sigma", "kVARI": "sigma"}
"""Length-scale of each kernel index; k(a, b) = exp(-(a - b)^2 / (2 sigma^2)), k(a, a) = 1."""

BAND_PREFERENCES: dict[str, dict[str, list[str]]] = {
    # B8A and B11 share 20 m pixels and their width is the one the index was made for; B08 would be resampled.
    "NDMI": {"N": ["nir08", "nir"]},
}

NOTES = {
    "NDMI": "Uses the narrow near infrared (nir08) where there is one: it shares its 20 m pixels with swir16.",
    "NDWI": "McFeeters' index of open water; Gao's of leaf water, also called NDWI, is NDMI here.",
}

SUPPLEMENT: list[dict[str, Any]] = [
    # Asked for by name everywhere in agronomy; the catalogue has the formula only as NDREI.
    {
        "short_name": "NDRE",
        "long_name": "Normalized Difference Red Edge",
        "formula": "(N - RE1) / (N + RE1)",
        "bands": ["N", "RE1"],
        "reference": "Barnes et al. 2000, Coincident detection of crop water stress, nitrogen status and canopy "
        "density using ground-based multispectral data, Proc. 5th Int. Conf. on Precision Agriculture, Bloomington",
        "application_domain": "vegetation",
        "date_of_addition": "",
        "note": "Not in the spyndex catalogue under this name; the same formula as NDREI. The reference's red edge is "
        "720 nm, between Sentinel-2's 704 nm (used here) and 740 nm.",
    }
]


def expand_kernels(name: str, formula: str) -> str:
    """Write kernels k<a><b> out as functions of the bands."""
    sigma = KERNEL_SIGMA.get(name)
    if sigma is None:
        return formula

    def expand(match: re.Match[str]) -> str:
        first, second = match.groups()
        return "1.0" if first == second else f"exp(-(({first} - {second}) ** 2.0) / (2.0 * {sigma} ** 2.0))"

    return re.sub(r"\bk([A-Z])([A-Z])\b", expand, formula)


def build_row(entry: dict[str, Any]) -> dict[str, Any] | None:
    """Return our row of one catalogue entry, or None where it needs what optical reflectance cannot give."""
    name = entry["short_name"]
    formula = expand_kernels(name, entry["formula"])
    constants, note = CONSTANTS.get(name, ({}, PIXEL_SIGMA_NOTE if name in KERNEL_SIGMA else ""))
    used = set(re.findall(r"[A-Za-z_]\w*", formula)) - {"exp"}
    constants = constants | {key: WAVELENGTHS[key] for key in used & WAVELENGTHS.keys()}
    if used - BAND_SYMBOLS - constants.keys():
        return None
    parsed = parse_formula(formula, constants)
    row: dict[str, Any] = {
        "name": name,
        "slug": SLUGS.get(name, name.lower()),
        "long_name": entry["long_name"],
        "formula": formula,
        "constants": dict(sorted(constants.items())),
        "symbols": list(parsed.symbols),
        "valid_range": list(default_range(parsed)),
        "reference": entry["reference"],
        "application": entry["application_domain"],
        "date_of_addition": entry["date_of_addition"],
    }
    if name in BAND_PREFERENCES:
        row["band_preferences"] = BAND_PREFERENCES[name]
    if note := entry.get("note", NOTES.get(name, note)):
        row["note"] = note
    return row


def build_catalogue() -> tuple[str, list[str]]:
    """Return the file's text and the names of entries left out."""
    package = Path(spyndex.__file__).parent
    listing = (package / "data" / "spectral-indices-dict.json").read_text(encoding="utf-8")
    entries = json.loads(listing)["SpectralIndices"]
    rows = [row for entry in [*entries.values(), *SUPPLEMENT] if (row := build_row(entry)) is not None]
    rows.sort(key=lambda row: row["slug"])
    known = {row["name"] for row in rows}
    unused = (CONSTANTS.keys() | KERNEL_SIGMA.keys() | NOTES.keys() | BAND_PREFERENCES.keys()) - known
    if len({row["slug"] for row in rows}) != len(rows) or unused:
        message = f"slugs repeat, or tables name indices that are not there: {sorted(unused)}"
        raise SystemExit(message)
    licence = next(file for file in metadata.files("spyndex") or [] if file.name == "LICENSE")
    head = {
        "about": "Spectral indices of Awesome Spectral Indices (https://github.com/awesome-spectral-indices), from "
        "the spyndex package under the MIT licence below; constants per index, slugs and valid ranges are ours. "
        "Written by tools/make_index_catalogue.py; do not edit.",
        "source": f"spyndex {metadata.version('spyndex')}",
        "licence": licence.read_text(encoding="utf-8"),
    }
    lines = ",\n".join("    " + json.dumps(row, ensure_ascii=False) for row in rows)
    text = json.dumps(head, indent=2, ensure_ascii=False)[:-2] + f',\n  "indices": [\n{lines}\n  ]\n}}\n'
    return text, sorted(entries.keys() - known)


def main() -> int:
    """Write the catalogue, or compare it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="exit 1 where the committed file differs")
    arguments = parser.parse_args()
    text, left_out = build_catalogue()
    if arguments.check:
        return 0 if TARGET.read_text(encoding="utf-8") == text else 1
    TARGET.write_text(text, encoding="utf-8")
    print(f"{len(json.loads(text)['indices'])} indices written, {len(left_out)} left out: {', '.join(left_out)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
