"""Evalscripts as Sentinel Hub runs them: the caller's own JavaScript, pixel by pixel, in QuickJS.

Version 3, SIMPLE mosaicking and one input only; anything else is refused, so that no test passes by accident.
Source: eu-cdse/documentation APIs/SentinelHub/Evalscript/V3.qmd.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import quickjs

FloatArray = npt.NDArray[np.float64]

_TIME_LIMIT_S = 60
_PRELUDE = """
function index(a, b) { return (a + b) === 0 ? 0 : (a - b) / (a + b); }
function inRange(v, low, high) { return v >= low && v <= high; }
"""
_RUNNER = """
;function __setup() {
  for (const name of ['preProcessScenes', 'updateOutput', 'updateOutputMetadata'])
    if (eval('typeof ' + name) === 'function') throw new Error('not emulated: ' + name);
  return JSON.stringify(setup());
}
function __pixels(text) {
  const job = JSON.parse(text), keys = job.keys, data = job.data, outs = job.ids.map(() => []);
  for (let p = 0; p < job.count; p++) {
    const sample = {};
    for (let k = 0; k < keys.length; k++) sample[keys[k]] = data[k][p];
    let result = evaluatePixel(sample, {}, job.inputMetadata, {}, {});
    if (Array.isArray(result)) { const named = {}; named[job.ids[0]] = result; result = named; }
    for (let i = 0; i < outs.length; i++) {
      const values = result ? result[job.ids[i]] : undefined, width = job.widths[i], out = outs[i];
      if (!Array.isArray(values))
        throw new Error('Output ' + job.ids[i] + ' requested but missing from evaluatePixel()');
      if (values.length !== width)
        throw new Error('Output ' + job.ids[i] + ' has ' + values.length + ' bands instead of ' + width);
      for (let q = 0; q < width; q++) out.push(+values[q]);
    }
  }
  // a third of the cost of JSON, and it knows NaN and Infinity
  return outs.map(out => out.join(',')).join(';');
}
"""


class RefusedError(Exception):
    """A request the service, or this emulator, does not accept."""

    def __init__(self, message: str, *, status: int = 400, code: str = "COMMON_BAD_PAYLOAD") -> None:
        super().__init__(message)
        self.status = status
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptOutput:
    """One output a script declares."""

    bands: tuple[str, ...]
    """Names; `B0`, `B1` … where the script gives a number."""
    sample_type: str


class Evalscript:
    """One script with its declarations; belongs to the thread that made it."""

    def __init__(self, source: str) -> None:
        """Run `setup`.

        Raises:
            RefusedError: no version 3, a JavaScript error, or a feature that is not emulated.

        """
        if not source.lstrip().startswith("//VERSION=3"):
            raise RefusedError("Script is not VERSION=3", code="RENDERER_EXCEPTION")
        self._context = quickjs.Context()
        self._context.set_time_limit(_TIME_LIMIT_S)
        try:
            self._context.eval(_PRELUDE + source + _RUNNER)
            declared = json.loads(self._context.get("__setup")())
        except quickjs.JSException as error:
            raise _script_error(error) from error
        self._read_inputs(declared)
        outputs = declared["output"] if isinstance(declared["output"], list) else [declared["output"]]
        self.outputs: dict[str, ScriptOutput] = {item.get("id", "default"): _output(item) for item in outputs}

    def _read_inputs(self, declared: Mapping[str, Any]) -> None:
        if declared.get("mosaicking", "SIMPLE") != "SIMPLE":
            raise RefusedError(f"this emulator knows SIMPLE mosaicking only, not {declared['mosaicking']}")
        inputs = declared["input"] if isinstance(declared["input"], list) else [declared["input"]]
        inputs = [{"bands": inputs}] if inputs and isinstance(inputs[0], str) else inputs
        if len(inputs) != 1:
            raise RefusedError("this emulator knows scripts with one input only")
        self.bands: tuple[str, ...] = tuple(inputs[0]["bands"])
        units = inputs[0].get("units")
        if isinstance(units, list) and len(units) != len(self.bands):
            raise RefusedError("units must be one, or one per band", code="RENDERER_EXCEPTION")
        self.units: tuple[str | None, ...] = tuple(units) if isinstance(units, list) else (units,) * len(self.bands)

    def run(self, layer: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        """Return every output as (n, bands) for samples given as (n,) per input band.

        Pixels without data are all alike, so the script runs once for all of them.

        Raises:
            RefusedError: the script throws.

        """
        table = np.column_stack([layer[name] for name in self.bands])
        empty = ~table.any(axis=1)
        kept = np.nonzero(~empty)[0]
        first_empty = np.nonzero(empty)[0][:1]
        rows = np.concatenate([kept, first_empty])
        results = self._evaluate(table[rows])
        out = {}
        for name, values in results.items():
            full = np.empty((len(table), values.shape[1]))
            full[kept] = values[: len(kept)]
            if len(first_empty):
                full[empty] = values[-1]
            out[name] = full
        return out

    def _evaluate(self, table: FloatArray) -> dict[str, FloatArray]:
        job = {
            "count": len(table),
            "keys": list(self.bands),
            "data": table.T.tolist(),
            "ids": list(self.outputs),
            "widths": [len(output.bands) for output in self.outputs.values()],
            "inputMetadata": {"serviceVersion": "emulator", "normalizationFactor": 0.0001},
        }
        try:
            answer: str = self._context.get("__pixels")(json.dumps(job))
        except quickjs.JSException as error:
            raise _script_error(error) from error
        return {
            name: np.fromstring(text, sep=",").reshape(len(table), len(output.bands))
            for (name, output), text in zip(self.outputs.items(), answer.split(";"), strict=True)
        }


def _script_error(error: Exception) -> RefusedError:
    return RefusedError(f"Failed to evaluate script!\nevalscript.js:{error}", code="RENDERER_EXCEPTION")


def _output(item: Mapping[str, Any]) -> ScriptOutput:
    bands = item.get("bands", 1)
    names = tuple(bands) if isinstance(bands, list) else tuple(f"B{number}" for number in range(int(bands)))
    return ScriptOutput(bands=names, sample_type=item.get("sampleType", "AUTO"))


def number_or_text(value: float) -> float | str:
    """Return a JSON number, or the text the service writes for what JSON has no number for."""
    if math.isfinite(value):
        return float(value)
    return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")


def require_only(content: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    """Refuse keys this emulator would otherwise silently ignore."""
    unknown = sorted(set(content) - set(known))
    if unknown:
        raise RefusedError(f"this emulator does not implement {where}.{f', {where}.'.join(unknown)}")
