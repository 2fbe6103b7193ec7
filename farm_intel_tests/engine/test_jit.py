"""Compiled kernels must never outlive the sources they were made of."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import farm_intel


def test_a_change_in_a_called_kernel_of_another_file_is_noticed(tmp_path: Path) -> None:
    package = tmp_path / "farm_intel"
    shutil.copytree(Path(farm_intel.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "engine" / "caller.py").write_text(
        "from farm_intel.engine.callee import inner\nfrom farm_intel.engine.jit import kernel\n\n\n"
        "@kernel\ndef outer(x):\n    return inner(x)\n"
    )
    answers = []
    for number in (1, 2):
        (package / "engine" / "callee.py").write_text(
            f"from farm_intel.engine.jit import kernel\n\n\n@kernel\ndef inner(x):\n    return x + {number}\n"
        )
        program = "from farm_intel.engine.caller import outer\nprint(outer(0))"
        done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
        answers.append(done.stdout.strip())

    assert answers == ["1", "2"]
    assert len(list((package / "engine" / "__pycache__").glob("kernels-*"))) == 2
