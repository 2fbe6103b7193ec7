"""Tests that share a server or a slow fixture run in one worker; where groups are ignored, nothing fails by itself."""

from __future__ import annotations

import os

import pytest


@pytest.mark.skipif("PYTEST_XDIST_WORKER" not in os.environ, reason="runs without workers")
@pytest.mark.xdist_group("guard")
def test_groups_are_kept_together(request: pytest.FixtureRequest) -> None:
    assert request.node.nodeid.endswith("@guard"), "pytest-xdist does not see groups under this version of pytest"
