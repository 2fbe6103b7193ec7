"""The story of a drought's alert: it opens, nobody answers, it escalates, somebody acts, it rains, it is over."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import date, datetime, timedelta

import httpx

from farm_intel.bootstrap.pumping import PumpReport
from farm_intel.domain.activities import OccurrenceState
from farm_intel.domain.alerts import Alert, AlertState
from farm_intel.domain.messages import SPEECH, MessageState
from farm_intel.speech.normalising import spoken_names
from farm_intel_tests.egress.servers import Request
from tools.intelligibility import CEILINGS
from tools.trial_people import WAIT_S, hear, verified
from tools.trial_setting import FARM, News, Setting

RULE = "drought_stress"
ACKNOWLEDGE = "acknowledge"
"""Name of the step that may be left out."""
LATEST_DAYS = 15
"""Days after the last rain within which the alert must open: by then all the leaf water is lost (phenology.DrySpell),
which is three revisits, of which the rule wants two to agree."""
SUBSCRIBERS = {"anna by WebSocket", "anna by mail", "juma by mail", "cooperative by webhook"}
AGRONOMIST = {"amina by mail"}
REMINDED, ESCALATED = timedelta(hours=2), timedelta(hours=6)
"""Since the opening: the first two steps of the policy `urgent` in alerts/rules.toml."""
APPLIED_MM = 25.0


class Story:
    """What happens, and what has to have happened then."""

    def __init__(self, stage: Setting, left_out: frozenset[str]) -> None:
        self._stage = stage
        self._record = stage.record
        self._left_out = left_out
        self._alert: Alert | None = None
        self._over = False

    def noon(self, day: date) -> None:
        """Pump once, and go on with the story where there is news."""
        if day == self._stage.season.onset:
            self._tell(f"the last rain on {FARM}; nobody knows yet what follows")
        if day == self._stage.season.rain:
            self._tell("it rains")
        report = self._pump()
        if self._alert is None:
            found = [alert for alert in self._stage.container.alerts.list() if alert.rule == RULE]
            if found:
                self._alert = found[0]
                self._opened(found[0], report)
                self._nobody_answers(found[0])
                self._somebody_acts(found[0])
            return
        alert = self._now(self._alert)
        if not self._over and alert.state is AlertState.RESOLVED:
            self._over = True
            self._resolved(alert)
        elif not self._over and day <= alert.opened_day + timedelta(days=1):
            quiet = not report.steps and alert.state is AlertState.ACKNOWLEDGED and not self._stage.news().told
            self._record.check("acknowledged: no further step", quiet, f"{alert.state.value} a day after it opened")

    def end(self) -> None:
        """Check that there was a story.

        Raises:
            TrialError: there was none.

        """
        self._record.require("the drought opens an alert", self._alert is not None, f"rule {RULE}")
        self._record.require("the alert resolves after the rain", self._over, "")

    def _opened(self, alert: Alert, report: PumpReport) -> None:
        stage, record = self._stage, self._record
        late = (alert.opened_day - stage.season.onset).days
        news = stage.news()
        self._tell(
            f"{RULE} opens on {alert.farm_id}, {late} days after the last rain",
            _listed(news.reached("opened")),
            mark="opened",
        )
        record.check(f"opens within {LATEST_DAYS} days of the last rain", 0 < late <= LATEST_DAYS, f"{late} days")
        record.check("opens on the dry farm", alert.farm_id == FARM, alert.farm_id)
        record.check(
            "all four subscribers, and not yet the agronomist, are told in one pass of the pump",
            news.reached("opened") == SUBSCRIBERS,
            f"{report.sent} messages in {report.seconds:.1f} s",
        )
        waiting = stage.container.reaching.outbox.list(state=MessageState.PENDING)
        record.check("nothing is left in the outbox", not waiting, len(waiting))
        self._written(news)
        self._signed(news)
        self._spoken(news, alert)

    def _written(self, news: News) -> None:
        short = _shorts(news)
        self._record.read += short
        longest = max((len(text) for text in short), default=0)
        self._record.check("texts fit into an SMS", 0 < longest <= 160, f"{longest} characters at most")
        letters = {letter.to: letter for letter in news.letters}
        languages = {to.partition("@")[0]: letter.language for to, letter in letters.items()}
        self._record.check("everybody reads their language", languages == {"anna": "en", "juma": "sw"}, languages)
        sounds = [len(letter.sound) for letter in news.letters]
        self._record.check("every mail carries its audio", sounds and all(sounds), f"{len(sounds)} mails")

    def _signed(self, news: News) -> None:
        stage = self._stage
        self._record.check("webhooks verify", news.hooks and not news.forged, f"{len(news.hooks)} of Standard Webhooks")
        genuine = stage.receiver.requests[-1]
        forged = Request(genuine.method, genuine.path, genuine.headers, genuine.body.replace(b"critical", b"harmless"))
        refused = forged.body != genuine.body and verified(forged, stage.secret, stage.clock.now()) is None
        self._record.check("a webhook that was tampered with does not", refused, "severity exchanged")

    def _spoken(self, news: News, alert: Alert) -> None:
        """Check that what is spoken can be fetched, is what was mailed, and is understood."""
        stage, record = self._stage, self._record
        row = next(
            message
            for message in stage.container.reaching.outbox.list(channel=SPEECH, farm_id=FARM)
            if message.new.subject == f"alert:{alert.alert_id}"
        )
        event = next(
            event
            for event in news.events
            if event["kind"] == "audio" and str(event["payload"]["message_event_id"]).startswith(row.new.subject)
        )
        told = event["payload"]
        answer = httpx.get(f"{stage.anna.base}{told['url']}", headers=stage.anna.header, timeout=WAIT_S)
        mailed = {letter.sound_sha256 for letter in news.letters if letter.to.startswith("anna")}
        record.check(
            "the audio over HTTP is what was mailed", told["sha256"] in mailed, f"sha256 {told['sha256'][:12]}…"
        )
        stranger = httpx.get(f"{stage.anna.base}{told['url']}", timeout=WAIT_S).status_code
        record.check("strangers do not get it", stranger == 401, f"HTTP {stranger}")
        names = spoken_names((index.name, index.long_name) for index in stage.container.registry.list())
        heard = hear(answer.content, row.new.text.spoken, names)
        ceiling = CEILINGS.get(told["engine"], 0.0)
        record.check(
            f"{told['engine']} is understood",
            heard.word_error_rate <= ceiling,
            f"word error rate {heard.word_error_rate:.3f} (at most {ceiling:.2f}), {heard.duration_s:.1f} s",
        )
        record.said, record.heard = heard.said, heard.heard

    def _nobody_answers(self, alert: Alert) -> None:
        stage, record = self._stage, self._record
        stage.anna.cut()
        self._tell("anna's connection breaks; nobody answers")
        before = self._step_at("reminder", alert.opened_at + REMINDED)
        self._tell("reminder", f"{_listed(before.reached('step:1'))}; anna's WebSocket is away", mark="reminder")
        record.check(
            "the reminder comes after two hours",
            before.reached("step:1") == SUBSCRIBERS - {"anna by WebSocket"},
            _listed(before.reached("step:1")),
        )
        later = self._step_at("escalation", alert.opened_at + ESCALATED)
        self._tell("escalated", f"{_listed(later.reached('step:2'))}, in her quiet hours", mark="agronomist called in")
        record.check(
            "after six hours the agronomist, and nobody else, is told",
            later.reached("step:2") == AGRONOMIST,
            _listed(later.reached("step:2")),
        )
        languages = [letter.language for letter in later.letters]
        record.check("she reads French", languages == ["fr"], languages)
        record.check("it is escalated", self._now(alert).state is AlertState.ESCALATED, self._now(alert).state.value)
        last = stage.anna.last_seq
        stage.anna.connect()
        missed = stage.news()
        numbers = [int(event["seq"]) for event in missed.events]
        record.check(
            "the live channel goes on where it broke",
            missed.reached("step:1") == {"anna by WebSocket"}
            and numbers == list(range(last + 1, last + 1 + len(numbers))),
            f"last_seq {last}, then {numbers[0]} to {numbers[-1]}" if numbers else "nothing came",
        )
        self._tell(f"anna is back: `last_seq={last}`", f"anna by WebSocket, {len(numbers)} events she missed")

    def _step_at(self, name: str, due: datetime) -> News:
        """Return the news of a step's time, after checking that it does not come a minute early."""
        stage = self._stage
        stage.clock.move_to(due - timedelta(minutes=1))
        early = self._pump().steps
        news = stage.news(live=False)
        stage.clock.move_to(due)
        steps = self._pump().steps
        self._record.check(
            f"{name}: at its time, not a minute before",
            not early and not news.told and steps == 1,
            f"{early} steps a minute before, {steps} on time",
        )
        return stage.news(live=False)

    def _somebody_acts(self, alert: Alert) -> None:
        stage, record = self._stage, self._record
        stage.clock.move_to(alert.opened_at + timedelta(hours=15, minutes=30))
        if ACKNOWLEDGE not in self._left_out:
            answer = self._post(f"/v1/alerts/{alert.alert_id}/acknowledge", {"note": "I open the pump this morning"})
            self._tell(
                "acknowledged: “I open the pump this morning”",
                f"anna over HTTP ({answer.status_code})",
                mark="acknowledged",
            )
            record.check(
                "acknowledged over HTTP",
                answer.status_code == 200 and answer.json()["state"] == "acknowledged",
                answer.status_code,
            )
        stage.clock.move_to(alert.opened_at + timedelta(hours=17))
        waiting = [
            row
            for row in stage.container.activities.occurrences(farm_ids=[FARM], states=[OccurrenceState.WAITING])
            if row.type == "irrigation"
        ]
        record.require("the alert has proposed one irrigation", len(waiting) == 1, len(waiting))
        row = waiting[0]
        due = row.due_at.isoformat().replace("+00:00", "Z")
        body = {"done": True, "quantities": {"amount_mm": APPLIED_MM}, "note": "furrows, before the sun"}
        answer = self._post(f"/v1/occurrences/{row.activity_id}/{due}/answer", body)
        self._tell(
            f"“{row.title}”: done, {APPLIED_MM:g} mm",
            f"anna over HTTP ({answer.status_code})",
            mark=f"watered, {APPLIED_MM:g} mm",
        )
        record.check(
            "the answer is taken", answer.status_code == 200 and answer.json()["state"] == "done", answer.status_code
        )
        logbook = stage.command("activities", "logbook", "--farms", FARM, "--format", "json")
        entries = json.loads(logbook.stdout) if logbook.returncode == 0 else []
        lines = [(entry["type"], entry["by"], entry["quantities"].get("amount_mm")) for entry in entries]
        record.check(
            "`farm-intel activities logbook` shows it",
            lines == [("irrigation", "anna", APPLIED_MM)],
            lines or logbook.stderr,
        )
        self._pump()
        stage.news()

    def _resolved(self, alert: Alert) -> None:
        stage, record = self._stage, self._record
        news = stage.news()
        reached = news.reached("resolved")
        record.read += _shorts(news)
        day = alert.resolved_day
        self._tell("the field is no longer dry: the alert resolves itself", _listed(reached), mark="resolved")
        record.check(
            "resolves after the rain, by a clear look",
            day is not None and day > stage.season.rain and alert.by == "farm-intel",
            f"{(day - stage.season.rain).days if day else '?'} days after it; {alert.reason}",
        )
        record.check(
            "those who were told are told that it is over", reached == SUBSCRIBERS | AGRONOMIST, _listed(reached)
        )

    def _post(self, path: str, body: dict[str, object]) -> httpx.Response:
        anna = self._stage.anna
        return httpx.post(f"{anna.base}{path}", headers=anna.header, json=body, timeout=WAIT_S)

    def _pump(self) -> PumpReport:
        return self._stage.container.pump.run(run_id="trial")

    def _now(self, alert: Alert) -> Alert:
        return self._stage.container.alerts.get(alert.alert_id)

    def _tell(self, what: str, told: str = "", *, mark: str = "") -> None:
        self._record.tell(self._stage.clock.now(), what, told, mark=mark)


def _shorts(news: News) -> list[str]:
    return [str(event["payload"]["short"]) for event in news.events if event["kind"] != "audio"]


def _listed(people: Iterable[str]) -> str:
    return ", ".join(sorted(people)) or "nobody"
