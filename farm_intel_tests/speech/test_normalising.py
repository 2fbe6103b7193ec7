"""Texts become words, per language, and stay what they are when they pass a second time."""

from __future__ import annotations

import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farm_intel.indices.registry import load_registry
from farm_intel.speech.normalising import load_words, normalise, spelled, spoken_names

NAMES = {"NDVI": "N D V I", "EVI2": "E V I 2", "NDVI-7": "N D V I seven"}

SAID = [
    (
        "en",
        "Rain 12 mm, field 1 ha, 2.5 ha, 1 m/s",
        "Rain 12 millimetres, field 1 hectare, 2 point 5 hectares, 1 metre per second",
    ),
    (
        "en",
        "20 kg/ha, 5 l, 40%, 18°C, 18 °C",
        "20 kilograms per hectare, 5 litres, 40 percent, 18 degrees Celsius, 18 degrees Celsius",
    ),
    (
        "en",
        "It is -3.5 °C; change +0.25 since then.",
        "It is minus 3 point 5 degrees Celsius; change plus 0 point 2 5 since then.",
    ),
    ("en", "Between 10-20 mm (2\u20133 h)", "Between 10 to 20 millimetres (2 to 3 hours)"),
    ("en", "since 2026-05-01", "since the first of May 2026"),
    ("en", "on 2026-05-31T14:05Z", "on the thirty-first of May 2026 14 hours 5"),
    ("en", "at 06:00 and 23:59:30", "at 6 hours and 23 hours 59"),
    ("en", "Day 2026-13-41 is none", "Day 2026 13 41 is none"),
    ("en", "1,234 mm, 1,234,567.5 kg", "1234 millimetres, 1234567 point 5 kilograms"),
    ("en", "a ≥ 0.2, b < 5 and c<=2", "a at least 0 point 2, b less than 5 and c at most 2"),
    ("en", "e.g. approx. 5 mm, max. 7", "for example approximately 5 millimetres, maximum 7"),
    ("en", "NDVI and EVI2, not NDVIX; NDVI-7", "N D V I and E V I 2, not NDVIX; N D V I seven"),
    ("en", "drought_stress **now** #1", "drought stress now 1"),
    ("en", "Field A-12, twenty-first row", "Field A-12, twenty-first row"),
    ("en", "<speak>Go <break time='9s'/>now</speak> &amp; see", "Go now and see"),
    ("en", "See https://a.example/x?y=1 or www.b.example now", "See or now"),
    ("en", "alert:0123456789abcdef for f47ac10b-58cc-4372-a567-0e02b2c3d479", "for"),
    ("en", "a\x00b\x1b[31mc\u202ed\u200be\nf", "ab 31mcde f"),
    ("en", "Version 1.2.3 at 10.0.0.1", "Version 1.2.3 at 10.0.0.1"),
    (
        "fr",
        "Pluie 12 mm, 1,5 ha, 2,5 ha, 0.12",
        "Pluie 12 millimètres, 1 virgule 5 hectare, 2 virgule 5 hectares, 0 virgule 1 2",
    ),
    (
        "fr",
        "-3,5 °C, 40\u00a0%, 1\u202f234 l d'eau",
        "moins 3 virgule 5 degrés Celsius, 40 pour cent, 1234 litres d'eau",
    ),
    ("fr", "depuis le 2026-05-01 à 14:05", "depuis le premier mai 2026 à 14 heures 5"),
    ("fr", "du 2026-08-15, env. 5 kg/ha", "du le 15 août 2026, environ 5 kilogrammes par hectare"),
    ("fr", "NDVI ≥ 0,2 et 5 l'an", "N D V I au moins 0 virgule 2 et 5 l'an"),
    ("sw", "mvua 12 mm, hekta: 2.5 ha, 40%", "mvua milimita 12, hekta: hekta 2 nukta 5, asilimia 40"),
    ("sw", "-3.5 °C tangu 2026-05-21", "nyuzi joto hasi 3 nukta 5 tangu tarehe ishirini na moja Mei 2026"),
    (
        "sw",
        "saa 07:00, saa 14:05, saa 18:00, saa 00:30",
        "saa 1 asubuhi, saa 8 na dakika 5 mchana, saa 12 jioni, saa 6 na dakika 30 usiku",
    ),
    ("sw", "20 kg/ha, NDVI < 0.2", "kilo 20 kwa hekta, N D V I chini ya 0 nukta 2"),
    ("de", "Feld <b>Nord</b>: 2,5 ha, NDVI", "Feld Nord : 2,5 ha, N D V I"),
]


@pytest.mark.parametrize(("language", "written", "said"), SAID)
def test_it_is_said_in_words_and_passing_again_changes_nothing(language, written, said):
    assert normalise(written, language, NAMES) == said
    assert normalise(said, language, NAMES) == said


SIGNS = ("mm", "ha", "kg/ha", "°C", "%", "-", "+", ".", ",", " ", "<", ">", "≥", "±", ":", "&", "&lt;", "/", "_", "'")
SIGNS += ("NDVI", "EVI2", "2026-05-01", "14:05", "the ", "saa ", "le ", "min.", "no.", "e.g.", "l", "1", "0.5", "12")
SIGNS += ("\u202f", "www.")
PIECES = st.one_of(
    st.sampled_from(SIGNS),
    st.text(alphabet=string.printable + "éà…°²³\u2013\u200b\u0301", max_size=4),
    st.integers(0, 99_999).map(str),
)


@pytest.mark.parametrize("language", ["en", "fr", "sw", "xx"])
@settings(max_examples=400, deadline=None)
@given(pieces=st.lists(PIECES, max_size=12))
def test_whatever_comes_twice_is_the_same_as_once_and_safe_to_say(language, pieces):
    once = normalise("".join(pieces), language, NAMES)

    assert normalise(once, language, NAMES) == once
    assert not set(once) & set("<>&{}[]|\\`$^*#@=~_%\n\r\t\0\x1b")
    assert once == once.strip()


def test_tables_of_all_languages_say_the_same_things():
    """Days and litres have the letter of the language; all else is there in every one."""
    tables = [load_words(language).table for language in ("en", "fr", "sw")]
    own = {"d", "j", "mm/j", "mm/day"}

    assert len({frozenset(table["units"]) - own for table in tables}) == 1
    assert len({frozenset(table["signs"]) for table in tables}) == 1
    assert all((len(table["date"]["days"]), len(table["date"]["months"])) == (31, 12) for table in tables)
    assert all("{n}" in form for table in tables for forms in table["units"].values() for form in forms)


def test_every_index_of_the_registry_is_said_and_stays_said():
    names = spoken_names((index.name, index.long_name) for index in load_registry().list())
    assert names["NDVI"] == "N D V I"
    assert names["AshburnVI"] == "Ashburn Vegetation Index"

    for name, said in names.items():
        once = normalise(f"The {name} fell.", "en", names)
        assert normalise(once, "en", names) == once
        if said == spelled(name):
            assert once == f"The {said} fell."


def test_a_name_that_its_own_words_contain_is_not_said_for_ever():
    assert normalise("WET soil", "en", {"WET": "WET index", "soil": "the ground"}) == "WET the ground"
