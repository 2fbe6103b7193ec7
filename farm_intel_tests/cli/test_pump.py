"""The pump, the outbox, the voice and the keys of the API at the command line, with a real mail server on loopback."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import signal
import subprocess
import sys
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

from farm_intel.bootstrap import container_from_environment
from farm_intel.cli.app import app
from farm_intel.storage.database import transaction
from farm_intel_tests.cli.test_activities import rows, waiting
from farm_intel_tests.delivery.mail_servers import Inbox, mail_server

Cli = Callable[..., tuple[int, str, str]]
PACKAGE = Path(__file__).resolve().parents[2] / "farm_intel"


@pytest.fixture
def told_by_mail(farmed: Cli, monkeypatch: pytest.MonkeyPatch) -> Callable[[Inbox], None]:
    """Return what points an installation at a mail server and subscribes somebody to it."""

    def subscribe(inbox: Inbox) -> None:
        for name, value in {
            "HOST": "127.0.0.1",
            "PORT": str(inbox.port),
            "SECURITY": "none",
            "FROM": "a@b.example",
        }.items():
            monkeypatch.setenv(f"FARM_INTEL_SMTP_{name}", value)
        code, _, err = farmed(
            "alerts", "subscribe", "--user", "anna", "--channel", "email", "--address", "anna@x.example"
        )
        assert code == 0, err

    return subscribe


def test_a_pass_sends_what_fell_due_once(farmed: Cli, told_by_mail: Callable[[Inbox], None]) -> None:
    with mail_server() as inbox:
        told_by_mail(inbox)
        waiting(farmed, days=1)
        took = len(inbox.mails)
        again = rows(farmed, "pump")[0]

        assert took == len(rows(farmed, "activities", "occurrences", "--state", "waiting")) > 0
        assert "Irrigation" in str(inbox.mails[0]["Subject"])
        assert again["sent"] == 0
        assert len(inbox.mails) == took


def test_a_dead_letter_is_shown_replayed_and_dropped(farmed: Cli, told_by_mail: Callable[[Inbox], None]) -> None:
    with mail_server(Inbox(rcpt="550 5.1.1 no such user")) as inbox:
        told_by_mail(inbox)
        waiting(farmed, days=1)
        dead = rows(farmed, "outbox", "list", "--state", "dead")
        assert dead
        assert all("550" in row["error"] and "anna@x" not in row["error"] for row in dead)
        finding = next(row for row in json.loads(farmed("doctor", "--format", "json")[1]) if row["check"] == "outbox")
        assert finding["detail"].startswith(f"{len(dead)} dead")

        inbox.rcpt = "250 2.1.5 ok"
        first = dead[0]["message"]
        code, out, _ = farmed("outbox", "show", first[:12])
        assert code == 0
        assert "spoken" in out
        assert farmed("outbox", "replay", first[:12])[0] == 0
        assert farmed("pump")[0] == 0
        assert len(inbox.mails) == 1
        code, _, err = farmed("outbox", "replay", first)
        assert code == 1
        assert "sent" in err

        code, out, _ = farmed("outbox", "drop", "--all", "--note", "old news")
        assert (code, out.count("is dropped") == len(dead) - 1 or "no dead" in out) == (0, True)
        assert rows(farmed, "outbox", "list", "--state", "dead") == []


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("outbox", "show", "nope"), 2, "outbox list"),
        (("outbox", "show", ""), 2, "outbox list"),
        (("outbox", "replay"), 2, "--all"),
        (("outbox", "replay", "x", "--all"), 2, "--all"),
        (("outbox", "drop", "nope", "--note", "x"), 2, "nope"),
        (("outbox", "drop", "nope"), 2, "--note"),
        (("outbox", "list", "--farm", "F9"), 2, "F9"),
        (("outbox", "list", "--channel", "pigeon"), 2, "webhook"),
        (("say", "", "--to", "x.wav"), 2, "1 to 600"),
        (("say", 601 * "a", "--to", "x.wav"), 2, "1 to 600"),
        (("say", "hello", "--to", "x.mp3"), 2, ".wav"),
        (("say", "hello", "--to", "nowhere/x.wav"), 2, "no folder"),
        (("say", "hello", "--language", "!", "--to", "x.wav"), 2, "!"),
        (("api", "token", " "), 2, "no user"),
        (("api", "ticket", "o'neil"), 2, "no user"),
        (("api", "ticket", "anna", "--seconds", "0"), 2, "1<=x<=3600"),
    ],
)
def test_a_mistake_is_told(farmed: Cli, arguments: tuple[str, ...], code: int, words: str) -> None:
    got, out, err = farmed(*arguments)

    assert got == code
    assert words in err
    assert not out
    assert not Path("x.wav").exists()


def test_nothing_dead_is_no_failure(farmed: Cli) -> None:
    assert farmed("outbox", "replay", "--all")[:2] == (0, "There are no dead messages.\n")
    assert farmed("activities", "dead")[:2] == (0, "There are no dead letters.\n")


@pytest.mark.parametrize("language", ["en", "fr", "sw"])
def test_a_text_is_never_silent_and_a_tone_says_that_it_is_one(farmed: Cli, tmp_path: Path, language: str) -> None:
    file = tmp_path / "said.wav"

    code, out, err = farmed("say", "Shamba.", "--language", language, "--to", str(file))

    assert code == 0
    assert "by tone" in out
    assert "farm-intel doctor" in err
    with wave.open(str(file)) as sound:
        assert sound.getnframes() > 0


def test_tokens_add_up_and_only_their_hashes_are_kept(farmed: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    made, text = {}, ""
    for user in ("anna", "juma"):
        code, out, err = farmed("api", "token", user)
        assert code == 0
        assert f"alerts subscribe --user {user}" in err, "who subscribes to nothing sees no farm"
        token = re.search(r"fi_\S+", out)
        setting = re.search(r"^export FARM_INTEL_API_TOKENS='(.*)'$", out, re.MULTILINE)
        assert token is not None
        assert setting is not None
        assert token[0] not in setting[1]
        made[hashlib.sha256(token[0].encode()).hexdigest()] = user
        text = setting[1]
        monkeypatch.setenv("FARM_INTEL_API_TOKENS", text)

    assert json.loads(text) == made
    assert "2 tokens, of anna, juma" in farmed("doctor")[1]


def test_a_ticket_lets_in_once(farmed: Cli) -> None:
    code, out, _ = farmed("api", "ticket", "anna")
    streams = container_from_environment().reaching.streams

    assert code == 0
    assert [streams.redeem(out.strip()), streams.redeem(out.strip())] == ["anna", None]


def test_health_is_well_hours_after_the_last_cleaning_up_and_not_without_a_pump(farmed: Cli) -> None:
    from fastapi.testclient import TestClient

    from farm_intel.api.installation import app_of

    def health() -> tuple[int, set[str]]:
        with TestClient(app_of(container_from_environment())) as client:
            answer = client.get("/v1/health")
            return answer.status_code, {part["name"] for part in answer.json()["parts"] if part["silent"]}

    assert health() == (503, set())
    assert farmed("pump")[0] == 0
    with transaction(container_from_environment().database) as connection:
        connection.exec_driver_sql("UPDATE heartbeats SET at = '2026-01-01 00:00:00.000000' WHERE name = 'retention'")
    assert health() == (200, set())
    with transaction(container_from_environment().database) as connection:
        connection.exec_driver_sql("UPDATE heartbeats SET at = '2026-01-01 00:00:00.000000' WHERE name = 'pump'")
    assert health() == (503, {"pump"})


def test_who_subscribes_to_a_farm_sees_it(farmed: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    from farm_intel.api.installation import app_of

    monkeypatch.setenv("FARM_INTEL_API_OPERATORS", "olga")

    def farms_of(user: str) -> frozenset[str] | None:
        access = app_of(container_from_environment()).state.services.access
        farms: frozenset[str] | None = access.farms_of(user)
        assert [access.may_see(user, farm) for farm in ("F1", "F2")] == [
            farms is None or farm in farms for farm in ("F1", "F2")
        ]
        return farms

    assert (farms_of("anna"), farms_of("olga")) == (frozenset(), None)
    assert farmed("alerts", "subscribe", "--user", "anna", "--channel", "stream", "--farm", "F1")[0] == 0
    assert (farms_of("anna"), farms_of("juma")) == ({"F1"}, frozenset())
    assert farmed("alerts", "subscribe", "--user", "anna", "--channel", "stream")[0] == 0
    assert farms_of("anna") is None


def findings(cli: Cli) -> dict[str, dict[str, Any]]:
    return {row["check"]: row for row in json.loads(cli("doctor", "--format", "json")[1])}


def test_doctor_tells_whether_anybody_would_be_told(farmed: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    before = findings(farmed)
    assert (before["pump"]["result"], before["mail"]["result"], before["api"]["result"]) == ("note", "note", "note")
    assert "nobody" in before["subscriptions"]["detail"]
    assert "only a tone in en, fr, sw" in before["speech"]["detail"]

    assert farmed("activities", "add", "--farm", "F1", "--type", "scouting", "--every", "1")[0] == 0
    assert findings(farmed)["pump"]["result"] == "wrong", "work is planned and no pump has ever run"
    assert farmed("pump")[0] == 0
    assert findings(farmed)["pump"]["result"] == "fine"

    monkeypatch.setenv("FARM_INTEL_API_TOKENS", '{"secret": "anna"}')
    assert findings(farmed)["api"]["result"] == "wrong"


def test_a_watch_goes_on_until_it_is_stopped(farmed: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FARM_INTEL_PUMP_INTERVAL_S", "5")
    assert farmed("alerts", "subscribe", "--user", "anna", "--channel", "stream")[0] == 0
    made = farmed("alerts", "subscriptions", "--format", "json")[1]
    assert farmed("alerts", "test", json.loads(made)[0]["subscription"])[0] == 0
    command = [str(Path(sys.executable).with_name("farm-intel")), "pump", "--watch", "--format", "json"]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_as_in_a_terminal,  # noqa: PLW1509 - sets signals only
    ) as process:
        assert process.stdout is not None
        first = "".join(process.stdout.readline() for _ in range(12))
        process.send_signal(signal.SIGINT)
        try:
            _, err = process.communicate(timeout=20)
        finally:
            process.kill()

    assert json.loads(first)[0]["sent"] == 1
    assert process.returncode == 1
    assert "Looking every 5 s" in err
    assert "Traceback" not in err


def _as_in_a_terminal() -> None:
    """Whoever runs the tests in the background has Ctrl-C ignored, and children inherit that."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def test_every_command_that_a_message_names_exists() -> None:
    """A hint that leads nowhere is worse than none."""
    told = set()
    for path in PACKAGE.rglob("*.py"):
        told |= {(path.name, name) for name in re.findall(r"`farm-intel ([a-z][^`\n]*)`", path.read_text())}

    missing = [f"{file}: farm-intel {words}" for file, words in sorted(told) if not _exists(words.split())]

    assert len(told) > 20
    assert missing == []


@pytest.mark.parametrize("page", ["activities", "alerts", "speech", "api"])
def test_every_command_of_a_page_exists_with_its_options(page: str) -> None:
    text = (PACKAGE.parent / "docs" / f"{page}.md").read_text()
    blocks = "\n".join(text.split("```")[1::2])
    lines = re.findall(r"^farm-intel (.+)$", blocks, re.MULTILINE)

    assert lines
    assert [line for line in lines if not _exists(shlex.split(line.partition(" > ")[0], comments=True))] == []


def test_a_hint_to_a_command_that_does_not_exist_would_be_found() -> None:
    assert _exists(["alerts", "subscriptions"])
    assert not _exists(["subscriptions", "list"])
    assert not _exists(["alerts", "lists"])
    assert not _exists(["activities", "log", "--nope"])


def _exists(words: list[str]) -> bool:
    command: click.Command | None = app
    context = click.Context(app)
    for word in words:
        if isinstance(command, click.Group):
            if not word.isidentifier() and not word.replace("-", "").isalpha():
                return True  # a list of commands in prose: `farm-intel alerts list|show`
            command = command.get_command(context, word)
            if command is None:
                return False
        elif word.startswith("--") and isinstance(command, click.Command):
            known = {name for one in command.params for name in one.opts} | {"--help"}
            if word.rstrip("…=") not in known:
                return False
    return True
