"""The apprise channel against a real local receiver, and what it must not be talked into."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from farm_intel.delivery.apprise_channel import OWN_HOST, SERVICES, AppriseChannel
from farm_intel.domain.errors import PermanentError, TransientError
from farm_intel_tests.delivery.test_mail import claimed
from farm_intel_tests.egress.servers import canary, http_receiver
from farm_intel_tests.notifying.fakes import new_message


@pytest.fixture
def channel() -> AppriseChannel:
    return AppriseChannel(timeout_s=10.0, own_hosts=["127.0.0.1"])


def test_a_message_arrives_by_its_service(channel: AppriseChannel, caplog: pytest.LogCaptureFixture) -> None:
    with http_receiver() as receiver, caplog.at_level(logging.DEBUG):
        address = f"json://user:canary-pass@127.0.0.1:{receiver.port}/canary-path"
        assert channel.send(claimed(address=address), None, None) == "json"

    (request,) = receiver.requests
    body = json.loads(request.body)
    assert (body["title"], body["message"]) == (new_message().text.title, new_message().text.long)
    assert request.path.startswith("/canary-path")
    assert "canary" not in caplog.text


@pytest.mark.parametrize("status", [500, 429, 404])
def test_a_service_that_does_not_take_it_is_tried_again(
    channel: AppriseChannel, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    with http_receiver() as receiver, caplog.at_level(logging.DEBUG):
        receiver.answer = lambda _: (status, {}, b"canary-answer")
        address = f"json://127.0.0.1:{receiver.port}/canary-path"
        with pytest.raises(TransientError, match="json did not take") as caught:
            channel.send(claimed(address=address), None, None)

    assert "canary" not in str(caught.value) + caplog.text


def test_redirects_are_not_followed(channel: AppriseChannel) -> None:
    with canary() as bird, http_receiver() as receiver:
        receiver.answer = lambda _: (302, {"location": f"http://127.0.0.1:{bird.port}/"}, b"")
        with pytest.raises(TransientError):
            channel.send(claimed(address=f"json://127.0.0.1:{receiver.port}/"), None, None)

    assert bird.connections == 0


@pytest.mark.parametrize(
    "address",
    [
        "macosx://",
        "windows://",
        "dbus://",
        "gnome://",
        "syslog://",
        "blink1://",
        "glib://",
        "file:///etc/passwd",
        "mailto://user:pass@example.org",
        "https://hooks.example.org/x",
        "fcm://project/?keyfile=/etc/passwd",
        "vapid://a@b.example/x?keyfile=/etc/passwd",
        "discord://1/abc?template=/etc/passwd",
        "tgram://1:a/2?template=/etc/passwd",
        "slack://T1/B1/C1?template=http://127.0.0.1/x",
        "json://127.0.0.1/?redirect=yes",
        "json://127.0.0.1/?rto=100000",
        "json://127.0.0.1/?verify=no",
        "json://localhost/x",
        "json://10.0.0.1/x",
        "json://169.254.169.254/latest",
        "json://127.0.0.1@10.0.0.1/x",
        "ntfy://10.0.0.1/topic",
        "json://127.0.0.1/a,json://10.0.0.1/b",
        "json://127.0.0.1/a json://10.0.0.1/b",
        "",
        "json://[::1",
    ],
)
def test_local_programs_local_files_and_other_hosts_are_out_of_reach(channel: AppriseChannel, address: str) -> None:
    with pytest.raises(PermanentError) as caught:
        channel.host(claimed(address=address))
    with pytest.raises(PermanentError):
        channel.send(claimed(address=address), None, None)

    assert not address or address not in str(caught.value)


def test_what_is_no_address_of_its_service_is_given_up(channel: AppriseChannel) -> None:
    with pytest.raises(PermanentError, match="no valid one of tgram"):
        channel.send(claimed(address="tgram://nonsense/"), None, None)


def test_the_breakers_name_of_a_host_gives_no_key_away(channel: AppriseChannel) -> None:
    name = channel.host(claimed(address="tgram://123456789:canary-bot-token/987"))

    assert name.startswith("tgram:")
    assert "canary" not in name


def test_services_of_a_fixed_host_take_none_from_the_url_and_run_no_program() -> None:
    """Asked of the library itself, so that a new release cannot move one to the other side unseen."""
    from apprise.manager_plugins import NotificationManager

    manager = NotificationManager()
    for name in sorted(SERVICES | OWN_HOST):
        plugin = manager[name]
        templates = [plugin.templates] if isinstance(plugin.templates, str) else plugin.templates
        assert any("{host}" in template for template in templates) == (name in OWN_HOST), name
        module = __import__(plugin.__module__, fromlist=["x"])
        source = Path(str(module.__file__)).read_text(encoding="utf-8")
        assert "subprocess" not in source, name
        assert "os.system" not in source, name
