"""The checks of `farm-intel doctor` about work, alerts, messages and voices."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from farm_intel.bootstrap import Container
from farm_intel.cli.finding import Finding
from farm_intel.domain.errors import BadRequestError
from farm_intel.domain.messages import SPEECH, MessageState

if TYPE_CHECKING:
    from collections.abc import Callable

MISSED_BEATS = 5
_SHORTEST_SILENCE = timedelta(minutes=20)
"""As `/v1/health`: Dagster's pump beats every ten minutes where nothing is due."""
_HEART = "pump"
_SHA256_CHARACTERS = 64


def _tables(container: Container) -> Finding:
    """Read the tables that users may add to; a mistake in one is told with file, row and key."""
    try:
        kinds = container.activity_types.list()
        rules = container.alerts.table.rules
        triggers = container.activity_triggers
    except BadRequestError as error:
        return Finding(check="tables", result="wrong", detail=error.message, advice=error.hint or "correct the file")
    unknown = sorted(
        {row.rule for row in triggers} - {rule.slug for rule in rules}
        | {row.type for row in triggers} - {kind.slug for kind in kinds}
    )
    return Finding(
        check="tables",
        result="note" if unknown else "fine",
        detail=f"{len(kinds)} activity types, {len(rules)} alert rules, {len(triggers)} proposals"
        + (f"; proposals name {', '.join(unknown)}, which is there no more" if unknown else ""),
        advice="correct FARM_INTEL_ACTIVITY_TRIGGER_FILES" if unknown else "",
    )


def _pump(container: Container) -> Finding:
    beats = {beat.name: beat.at for beat in container.activities.heartbeats()}
    advice = "run `farm-intel up`, or `farm-intel pump` every minute by cron"
    if _HEART not in beats:
        planned = bool(container.activities.activities(limit=1)) or bool(container.alerts.live())
        return Finding(
            check="pump",
            result="wrong" if planned else "note",
            detail="no pass of the pump has ever ended well",
            advice=advice,
        )
    age = container.clock.now() - beats[_HEART]
    late = age > max(MISSED_BEATS * timedelta(seconds=container.settings.pump_interval_s), _SHORTEST_SILENCE)
    return Finding(
        check="pump",
        result="wrong" if late else "fine",
        detail=f"last pass {_ago(age)} ago" + (": nothing falls due and nobody is told meanwhile" if late else ""),
        advice=advice if late else "",
    )


def _subscriptions(container: Container) -> Finding:
    found = container.reaching.subscriptions.list()
    return Finding(
        check="subscriptions",
        result="fine" if found else "note",
        detail=f"{len(found)} of {len({one.user_id for one in found})} users"
        if found
        else "nobody is told of anything",
        advice="" if found else "`farm-intel alerts subscribe --user YOU --channel stream`",
    )


def _mail(container: Container) -> Finding:
    settings = container.settings
    mails = sum(one.channel == "email" for one in container.reaching.subscriptions.list())
    if not settings.smtp_host:
        return Finding(
            check="mail",
            result="wrong" if mails else "note",
            detail="no mail server is set" + (f", and {mails} subscriptions want mail" if mails else ""),
            advice="set FARM_INTEL_SMTP_HOST and FARM_INTEL_SMTP_FROM",
        )
    if not settings.smtp_from:
        return Finding(check="mail", result="wrong", detail="mails have no sender", advice="set FARM_INTEL_SMTP_FROM")
    return Finding(
        check="mail", result="fine", detail=f"{settings.smtp_host}:{settings.smtp_port} ({settings.smtp_security})"
    )


def _outbox(container: Container) -> Finding:
    dead = container.reaching.outbox.counts()[MessageState.DEAD]
    waiting = container.reaching.outbox.oldest_due(now=container.clock.now())
    late = waiting is not None and waiting > timedelta(hours=1)
    detail = f"{dead} dead messages" + (f", one is due for {_ago(waiting)}" if waiting is not None and late else "")
    return Finding(
        check="outbox",
        result="note" if dead or late else "fine",
        detail=detail,
        advice="`farm-intel outbox list --state dead`, then replay or drop" if dead else "",
    )


def _speech(container: Container) -> Finding:
    from farm_intel.notifying.texts.words import languages

    engines = container.reaching.engines
    there = [engine for engine in engines if engine.installed()]
    absent = [engine.name for engine in engines if engine not in there]
    mute = [code for code in languages() if not any(engine.speaks(code) for engine in there)]
    detail = f"{', '.join(engine.name for engine in there) or 'none'} installed"
    detail += f"; not {', '.join(absent)}" if absent else ""
    detail += f"; only a tone in {', '.join(mute)}" if mute else ""
    return Finding(
        check=SPEECH,
        result="note" if absent or mute else "fine",
        detail=detail,
        advice="`apt-get install flite espeak-ng`; docs/speech.md names the rest" if absent or mute else "",
    )


def _api(container: Container) -> Finding:
    tokens = container.settings.api_tokens
    wrong = [user for digest, user in tokens.items() if len(digest) != _SHA256_CHARACTERS or not user]
    if wrong:
        return Finding(
            check="api",
            result="wrong",
            detail=f"{len(wrong)} entries of FARM_INTEL_API_TOKENS are no SHA-256 and user",
            advice="`farm-intel api token USER` prints the setting",
        )
    users = sorted(set(tokens.values()))
    return Finding(
        check="api",
        result="fine" if tokens else "note",
        detail=f"{len(tokens)} tokens, of {', '.join(users)}" if tokens else "nobody has a token",
        advice="" if tokens else "`farm-intel api token USER` makes one",
    )


def _ago(age: timedelta) -> str:
    seconds = age.total_seconds()
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


TELLING_CHECKS: tuple[Callable[[Container], Finding], ...] = (
    _tables, _pump, _subscriptions, _mail, _outbox, _speech, _api,
)  # fmt: skip
