"""Providers as resources, and the time a run gives them."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import dagster as dg
import pytest

from farm_intel.defs.build import build_definitions
from farm_intel.defs.in_time import in_time
from farm_intel.defs.resources import provider_resources
from farm_intel.domain.errors import DeadlineExceededError
from farm_intel.resilience import deadlines
from farm_intel_tests.defs.harness import TODAY, materialized, sync
from farm_intel_tests.support.fake_observing import FakeFacts, FakeSource, installation

D1 = date(2026, 6, 1)


class Watch:
    """A clock that is moved by hand."""

    def __init__(self):
        self.at_s = 0.0

    def __call__(self):
        return self.at_s


def test_every_provider_in_use_is_a_resource_that_tells_what_it_is():
    made = installation(provider_deadline_s=42.0)
    limited = FakeFacts(title="Sentinel-2", unit="processing units", monthly_units=10_000.0, requests_per_minute=300.0)
    made.sources = (*made.sources, FakeSource(name="sentinel_hub", row=limited, missing_settings=("FARM_INTEL_X",)))

    made_resources = provider_resources(made)

    assert list(made_resources) == ["stac", "sentinel_hub"]
    hub = made_resources["sentinel_hub"]
    assert isinstance(hub, dg.ConfigurableResource)
    assert type(hub) is not type(made_resources["stac"])
    assert (hub.collection, hub.capability, hub.deadline_s) == ("sentinel-2-l2a", "pixels", 42.0)
    assert hub.quota == "10000 processing units a month, 300 requests a minute"
    assert hub.missing_settings == "FARM_INTEL_X"


def test_operations_that_ask_a_provider_require_its_resource_and_its_pool():
    definitions = build_definitions(installation(), today=TODAY)
    observe = definitions.get_assets_def(dg.AssetKey(["stac", "ndvi"]))
    fuse = definitions.get_assets_def(dg.AssetKey(["fused", "ndvi"]))

    assert observe.required_resource_keys >= {"farm_intel", "stac"}
    assert observe.op.pool == "stac"
    assert fuse.required_resource_keys >= {"farm_intel", "stac"}
    assert fuse.op.pool == "fused"


def test_a_providers_deadline_of_a_run_reaches_whatever_is_called_for_it():
    made = installation(days=[D1], asset_indices=("ndvi",))
    seen: list[float | None] = []
    search = made.catalog.search

    def watching(query):
        seen.append(deadlines.remaining_s())
        return search(query)

    made.catalog.search = watching  # a field of this fake, not of the code under test
    with dg.DagsterInstance.ephemeral() as instance:
        sync(instance, made)
        result = (
            build_definitions(made, today=TODAY)
            .resolve_job_def("stac_cells")
            .execute_in_process(
                instance=instance,
                run_config={
                    "ops": {"stac_observe_cells": {"config": {"keys": [f"{D1}|f00"], "indices": []}}},
                    "resources": {"stac": {"config": {"deadline_s": 7.0}}},
                },
            )
        )
        assert result.success
        assert materialized(instance, "stac", "ndvi") == {f"{D1}|f00"}
    assert seen
    assert all(left is not None and 6.0 < left <= 7.0 for left in seen)
    assert deadlines.remaining_s() is None


def test_only_the_work_itself_counts_and_the_deadline_does_not_leak_to_the_consumer():
    watch = Watch()

    def steps():
        for number in range(5):
            watch.at_s += 1.0
            yield number

    taken = []
    for step in in_time(steps(), 5.5, "the work", monotonic_s=watch):
        watch.at_s += 100.0  # recording takes its time
        assert deadlines.remaining_s() is None
        taken.append(step)

    assert taken == [0, 1, 2, 3, 4]


def test_work_that_is_not_done_in_time_is_given_up_after_what_it_gave():
    watch = Watch()

    def endless():
        while True:
            watch.at_s += 2.0
            yield watch.at_s

    taken = []
    with pytest.raises(DeadlineExceededError, match="the work is not done after 5 s"):
        taken.extend(in_time(endless(), 5.0, "the work", monotonic_s=watch))

    assert taken == [2.0, 4.0, 6.0]


def test_a_deadline_that_is_over_makes_a_failure_that_keeps_what_was_recorded():
    made = installation(days=[D1], asset_indices=("ndvi",))
    made.settings = replace(made.settings, provider_deadline_s=1e-9)
    with dg.DagsterInstance.ephemeral() as instance:
        sync(instance, made)
        result = (
            build_definitions(made, today=TODAY)
            .resolve_job_def("stac_cells")
            .execute_in_process(
                instance=instance,
                run_config={"ops": {"stac_observe_cells": {"config": {"keys": [f"{D1}|f00"], "indices": []}}}},
                raise_on_error=False,
            )
        )
        (event,) = [e for e in result.all_events if e.is_step_failure]
        assert event.step_failure_data.user_failure_data.metadata["kind"].value == "transient"
