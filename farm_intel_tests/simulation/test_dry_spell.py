"""A dry spell of one field of the world: what it does to the truth, and to nobody else's."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from farm_intel.domain.errors import UnknownNameError
from farm_intel.indices.registry import load_registry
from farm_intel.simulation.phenology import DrySpell
from farm_intel.simulation.world import FarmWorld, WorldOptions

OPTIONS = {"seed": 4, "farms": 6, "sizes_ha": (5.0,), "tile_px": 360, "days": 110}
DRY = {"dry_farm": "F003", "dry_from_day": 45, "dry_days": 30}
MOISTURE = load_registry(()).get("ndmi")


def test_the_field_loses_water_and_canopy_and_regains_most_after_rain():
    usual, dry = FarmWorld(WorldOptions(**OPTIONS)), FarmWorld(WorldOptions(**OPTIONS, **DRY))
    start = usual.options.start

    def change(number: int) -> float:
        day = start + timedelta(days=number)
        return dry.true_index("F003", day, MOISTURE) - usual.true_index("F003", day, MOISTURE)

    assert change(45) == 0.0
    assert change(75) < -0.15
    assert change(65) < change(55) < 0.0
    assert change(90) > 0.4 * change(75)


def test_the_neighbours_and_a_world_without_a_spell_stay_as_they_are():
    usual, dry = FarmWorld(WorldOptions(**OPTIONS)), FarmWorld(WorldOptions(**OPTIONS, **DRY))
    day = date(2026, 3, 10)
    for farm in usual.farms:
        same = usual.true_index(farm.farm_id, day, MOISTURE) == dry.true_index(farm.farm_id, day, MOISTURE)
        assert same is (farm.farm_id != "F003")


def test_the_water_comes_back_within_days_of_rain():
    spell = DrySpell(first_day=date(2026, 2, 1), days=30)
    assert spell.leaf_water_lost(date(2026, 2, 16)) == 1.0
    assert spell.leaf_water_lost(date(2026, 3, 15)) == 0.0
    assert spell.canopy_lost(date(2026, 2, 6)) == 0.0


def test_options_survive_a_file_and_unknown_farms_are_refused():
    options = WorldOptions(**OPTIONS, **DRY)
    assert WorldOptions.from_dict(options.as_dict()) == options
    with pytest.raises(UnknownNameError, match="F999"):
        FarmWorld(WorldOptions(**OPTIONS, dry_farm="F999"))
