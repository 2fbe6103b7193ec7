"""The page of the chaos trials."""

from __future__ import annotations

from collections.abc import Sequence

from farm_intel_tests.chaos.trials import Line

_HEAD = """# Chaos

The real generator, worker, outbox and deliverer, killed, starved and cut off; written by `make chaos`
(`python -m tools.chaos`; this page by its `--write`). Not real are only dates every half second, the subscriber's plain
words, and a receiver that is an append-only file of message ids.

*Kill loop*: three processes generate, work and deliver; at random moments one of them is killed with SIGKILL and
started again. Executed means: the occurrence is done and has its line in the logbook; what arrived is read from the
receiver's file.
*Crash points*: every system call that writes, made by one occurrence (generate, claim, work, finish), one delivery, the
delivery of one audio and the rendering of one, is the last one of its process once (`strace` kills it there), or fails
once; the database is looked at, then the program runs again, then all of the way.
*Mutants* are the same code with one protection missing: a trial that does not find them proves nothing.
"""


def page(lines: Sequence[Line], *, quick: bool, seconds: float) -> str:
    """Return the page: first the design, then what the trials find where a protection is missing."""
    designs = [line for line in lines if not line.wanted.endswith("found")]
    mutants = [line for line in lines if line.wanted.endswith("found")]
    wrong = sum(not line.right for line in lines)
    text = [
        _HEAD,
        (
            f"{'A quick run: ' if quick else ''}{len(designs)} results of the design and {len(mutants)} of mutants in"
            f" {seconds / 60:.0f} minutes; {wrong} not as wanted."
        ),
        "",
        "## The design",
        "",
        "| trial | of | wanted | measured |  |",
        "|---|---|---|---|---|",
        *map(_row, designs),
        "",
        "## Mutants",
        "",
        "| trial | what is missing | wanted | measured |  |",
        "|---|---|---|---|---|",
        *map(_row, mutants),
        "",
    ]
    return "\n".join(text)


def _row(line: Line) -> str:
    mark = "pass" if line.right else "**FAIL**"
    return f"| {line.trial} | {line.what} | {line.wanted} | {line.measured} | {mark} |"
