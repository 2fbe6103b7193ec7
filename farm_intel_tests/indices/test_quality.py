"""Parameters as data: every index has them, a user's own too, and a row that says something wrong is refused."""

from __future__ import annotations

import pytest

from farm_intel.domain.errors import BadRequestError
from farm_intel.indices import quality
from farm_intel.indices.quality import assessment_rules, quality_table, smoothing_rule
from farm_intel.indices.registry import load_registry
from farm_intel.indices.tables import Table

USER_INDEX = """
[[index]]
name = "TwiceRed"
slug = "twice_red"
long_name = "A test index ten times as large as others"
formula = "10.0 * (N - R) / (N + R)"
reference = "none"
application = "vegetation"
valid_range = [-10.0, 10.0]
"""


def test_numbers_of_a_row_and_of_the_interpretation_come_before_shares():
    registry = load_registry()
    own, shared = assessment_rules(registry.get("ndvi")), assessment_rules(registry.get("ndmi"))

    assert own.fusion.tolerance == 0.10
    assert own.spikes.step == registry.get("ndvi").interpretation.quality.outlier_step
    assert shared.fusion.tolerance == pytest.approx(0.080, abs=0.002)  # 0.14 of what canopies and soils span


def test_a_users_index_gets_parameters_of_its_own_scale(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(USER_INDEX)
    registry = load_registry([path])

    mine, like = registry.get("twice_red"), registry.get("ndvi")

    assert assessment_rules(mine).spikes.cloud_value == pytest.approx(
        10 * assessment_rules(like).spikes.cloud_value, rel=1e-3
    )
    assert smoothing_rule(mine).bend_per_day == pytest.approx(10 * smoothing_rule(like).bend_per_day, rel=1e-3)


def test_the_version_changes_with_what_the_rules_say():
    index = load_registry().get("ndvi")

    assert assessment_rules(index).version == assessment_rules(index).version
    assert assessment_rules(index).version != assessment_rules(index, harmonise=False).version
    assert assessment_rules(index).version != assessment_rules(load_registry().get("savi")).version


def test_every_number_has_a_source():
    table = quality_table()

    assert table.confidence.source
    assert all(table.sources.values())
    assert all(sensor.source for sensor in table.sensors.rows)
    assert all(step.source for step in table.steps)


@pytest.mark.parametrize(
    ("parse", "values"),
    [
        (lambda table: quality._index_row(table, {"tolerance": 0.1}), {"index": "x", "source": "s", "tolerence": 0.1}),
        (quality._confidence, {"weights": {"source": 1.0}}),
        (
            quality._confidence,
            {"weights": dict.fromkeys(quality.COMPONENTS, 1.0), "flag_factors": {"no_such_flag": 0.5}},
        ),
        (quality._step, {"from": "a", "to": "b", "source": "s", "inverted": 1, "bands": {}}),
        (quality._step, {"from": "a", "to": "b", "source": "s", "bands": {"red": [1.0]}}),
        (quality._sensor, {"family": "a", "bandpass": "b", "trust": 1.0, "pattern": "p", "source": "s", "more": 1}),
    ],
)
def test_a_row_that_says_something_wrong_is_refused(parse, values):
    with pytest.raises(BadRequestError, match=r"test\.toml"):
        parse(Table(values, "test.toml"))
