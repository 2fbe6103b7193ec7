"""URLs given by users: hostile ones, odd notations, names that change their mind, redirects, endless answers."""

from __future__ import annotations

import ipaddress
import logging
import socket
import threading
import time
from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm_intel.domain.errors import NotConfiguredError, TransientError
from farm_intel.egress.client import EgressClient, PinnedBackend
from farm_intel.egress.guard import Allowance, UrlRefusedError, check_url, is_public, system_resolver, url_host
from farm_intel_tests.egress.servers import canary, http_receiver

LOOPBACK = Allowance.of(["127.0.0.0/8"])
ANY_SCHEME = Allowance(schemes=frozenset({"http", "https"}), ports=frozenset(range(1, 65536)))

HOSTILE = [
    # prototypes/reliability/ssrf.py
    "http://127.0.0.1/",
    "http://2130706433/",
    "http://0x7f000001/",
    "http://0177.0.0.1/",
    "http://127.1/",
    "http://0/",
    "http://[::1]/",
    "http://[::ffff:127.0.0.1]/",
    "http://[::ffff:7f00:1]/",
    "http://[64:ff9b::7f00:1]/",
    "http://[2002:7f00:1::]/",
    "http://169.254.169.254/",
    "http://[fe80::1]/",
    "http://[fd00:ec2::254]/",
    "http://100.64.0.1/",
    "http://192.0.0.192/",
    "http://10.0.0.1/",
    "http://198.18.0.1/",
    "http://224.0.0.1/",
    "http://0.0.0.0/",
    "http://255.255.255.255/",
    "http://a@127.0.0.1/",
    "http://127.0.0.1#@example.org/",
    "http://①②⑦.⓪.⓪.①/",
    # more notations, more disguises
    "http://017700000001/",
    "http://0x7f.1/",
    "http://127.0.0.1./",
    "http://127.0.1/",
    "http://[::]/",
    "http://[::127.0.0.1]/",
    "http://[::ffff:0:127.0.0.1]/",
    "http://[64:ff9b:1::7f00:1]/",
    "http://[2002:a9fe:a9fe::]/",
    "http://[2001:0:7f00:1::]/",
    "http://[fec0::1]/",
    "http://[ff02::1]/",
    "http://[fe80::1%25eth0]/",
    "http://[2606:4700::1111%25lo]/",
    "http://192.88.99.1/",
    "http://192.168.1.1/",
    "http://172.16.0.1/",
    "http://240.0.0.1/",
    "http://localhost/",
    "http://LOCALHOST./",
    "http://127.0.0.1%2f@example.org/",
    "http://example.org@127.0.0.1/",
    "http://example.org\\@127.0.0.1/",
    "http://127.0.0.1\t/",
    " http://127.0.0.1/",
    "http://127.0.0.1\r\nHost: x/",
    "http:///etc/passwd",
    "http://[::1/",
    "http://[127.0.0.1]/",
    "http://ｌocalhost/",  # noqa: RUF001 - that is the trick
    "file:///etc/passwd",
    "gopher://127.0.0.1:25/",
    "ftp://example.org/",
    "unix:///run/docker.sock",
    "http://example.org:99999/",
    "https://" + "a" * 3000 + ".example/",
    "",
]


def public_resolver(_host: str, _port: int) -> Sequence[str]:
    return ["93.184.216.34"]


@pytest.mark.parametrize("url", HOSTILE)
def test_no_hostile_url_is_let_through(url: str) -> None:
    """Schemes and ports are all allowed here, so that only the address and the notation can save us."""
    with pytest.raises((UrlRefusedError, TransientError)) as caught:
        check_url(url, allow=ANY_SCHEME, resolver=system_resolver)

    assert not url or url not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["http://2130706433/", "http://0x7f.1/", "http://127.1/", "http://①②⑦.⓪.⓪.①/", "http://a.0x1/"]
)
def test_odd_notations_are_refused_whatever_the_resolver_makes_of_them(url: str) -> None:
    with pytest.raises(UrlRefusedError):
        check_url(url, allow=ANY_SCHEME, resolver=public_resolver)


def test_every_answer_of_the_resolver_must_be_public() -> None:
    with pytest.raises(UrlRefusedError, match="not public"):
        check_url("https://two.example/", resolver=lambda *_: ["93.184.216.34", "10.0.0.1"])


def test_a_public_url_is_checked_and_tells_where_it_leads() -> None:
    checked = check_url("https://Hooks.Example.:8443/a?b#c", resolver=public_resolver)

    assert (checked.host, checked.port, checked.addresses) == ("hooks.example", 8443, ("93.184.216.34",))
    assert checked.url.endswith("/a?b")
    assert url_host("https://Hooks.Example/secret") == "hooks.example:443"
    assert url_host("https://[2606:4700::1111]/x") == "[2606:4700::1111]:443"


@pytest.mark.parametrize("url", ["http://hooks.example/", "https://hooks.example:22/", "https://hooks.example:25/"])
def test_only_https_on_its_ports(url: str) -> None:
    with pytest.raises(UrlRefusedError):
        check_url(url, resolver=public_resolver)


def test_what_the_operator_allows_is_allowed_and_nothing_beside_it() -> None:
    allow = Allowance.of(["10.1.0.0/16", "receiver.farm.lan", "fd12::/16"])

    assert check_url("http://10.1.2.3:8080/", allow=allow).port == 8080
    assert check_url("http://[fd12::1]:8080/", allow=allow).addresses == ("fd12::1",)
    assert check_url("http://receiver.farm.lan:99/", allow=allow, resolver=lambda *_: ["192.168.7.7"]).port == 99
    for url in ("http://10.2.0.1/", "http://127.0.0.1/", "https://[fd13::1]/"):
        with pytest.raises(UrlRefusedError):
            check_url(url, allow=allow)
    with pytest.raises(UrlRefusedError):
        check_url("https://other.farm.lan/", allow=allow, resolver=lambda *_: ["10.1.2.3", "127.0.0.1"])
    with pytest.raises(NotConfiguredError, match="neither"):
        Allowance.of(["http://receiver"])


@given(st.ip_addresses(v=4))
def test_ipv4_in_every_disguise_is_judged_as_itself(address: ipaddress.IPv4Address) -> None:
    number = int(address)
    disguises = [
        f"::ffff:{address}",
        f"64:ff9b::{number >> 16:x}:{number & 0xFFFF:x}",
        f"2002:{number >> 16:x}:{number & 0xFFFF:x}::1",
    ]
    public = is_public(address)

    assert [is_public(ipaddress.IPv6Address(text)) for text in disguises] == [public] * 3
    if address.is_private or address.is_multicast or address.is_loopback or address.is_link_local:
        assert not public


class Rebinding:
    """Answers a public address first and the loopback ever after."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, _host: str, _port: int) -> Sequence[str]:
        self.asked += 1
        return ["93.184.216.34"] if self.asked == 1 else ["127.0.0.1"]


def no_internet(address: str, port: int, timeout_s: float) -> socket.socket:
    if not ipaddress.ip_address(address).is_loopback:
        raise ConnectionRefusedError(address)
    return socket.create_connection((address, port), timeout=timeout_s)


def test_a_name_that_changes_its_mind_leads_nowhere_else() -> None:
    resolver = Rebinding()
    with canary() as bird:
        client = EgressClient(allow=ANY_SCHEME, resolver=resolver, connector=no_internet)
        with pytest.raises(TransientError, match="connection failed"):
            client.request("POST", f"http://rebind.example:{bird.port}/", headers={}, content=b"x")

    assert (bird.connections, resolver.asked) == (0, 1)


class _AsksAgain(PinnedBackend):
    """The client that resolves when it connects, as all usual ones do."""

    resolver: Rebinding

    def addresses(self, port: int) -> Iterable[str]:
        return type(self).resolver("rebind.example", port)


class _Unpinned(EgressClient):
    def _backend(self, checked, until_s):  # type: ignore[no-untyped-def]  # a mutant
        return _AsksAgain(checked, until_s=until_s, connect_s=1.0, connector=no_internet)


def test_without_the_checked_address_the_canary_would_sing() -> None:
    _AsksAgain.resolver = Rebinding()
    with canary() as bird:
        client = _Unpinned(allow=ANY_SCHEME, resolver=_AsksAgain.resolver)
        with pytest.raises(TransientError):
            client.request("POST", f"http://rebind.example:{bird.port}/", headers={}, content=b"x")

    assert bird.connections == 1


def test_hostile_urls_make_no_connection_at_all() -> None:
    with canary() as bird:
        client = EgressClient(allow=Allowance(schemes=frozenset({"http"}), ports=frozenset({bird.port})))
        for url in HOSTILE:
            target = url.removesuffix("/") + f":{bird.port}/" if url.startswith("http://") else url
            with pytest.raises((UrlRefusedError, TransientError)):
                client.request("POST", target, headers={}, content=b"x")

    assert bird.connections == 0


def test_host_and_path_arrive_as_written_and_nothing_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with http_receiver() as receiver, caplog.at_level(logging.DEBUG):
        client = EgressClient(allow=Allowance.of(["hooks.example"]), resolver=lambda *_: ["127.0.0.1"])
        url = f"http://hooks.example:{receiver.port}/hook?token=canary-token"
        answer = client.request("POST", url, headers={"x-a": "b"}, content=b"body")

    (request,) = receiver.requests
    assert answer.status == 204
    assert (request.path, request.headers["host"]) == ("/hook?token=canary-token", f"hooks.example:{receiver.port}")
    assert (request.headers["x-a"], request.body) == ("b", b"body")
    assert request.headers["accept-encoding"] == "identity"
    assert "canary-token" not in caplog.text


def test_a_redirect_to_the_loopback_is_an_answer_and_not_a_way() -> None:
    with canary() as bird, http_receiver() as receiver:
        receiver.answer = lambda _: (302, {"location": f"http://127.0.0.1:{bird.port}/"}, b"")
        answer = EgressClient(allow=LOOPBACK).request("POST", receiver.url, headers={}, content=b"x")

    assert answer.status == 302
    assert bird.connections == 0


def test_an_endless_answer_is_read_up_to_the_limit() -> None:
    with http_receiver() as receiver:
        receiver.answer = lambda _: (200, {"content-length": str(10**9)}, b"x" * 200_000)
        answer = EgressClient(allow=LOOPBACK, largest_bytes=1000).request("GET", receiver.url, headers={})

    assert len(answer.body) == 1000


@pytest.mark.parametrize("opening", [b"HTTP/1.1 200 OK\r\nX-A: ", b"HTTP/1.1 200 OK\r\n\r\n", b""])
def test_a_server_that_drips_is_left_when_the_time_for_everything_is_up(opening: bytes) -> None:
    """A timeout per read would never end: a byte comes every 50 ms."""

    def drip(connected: socket.socket) -> None:
        try:
            connected.sendall(opening)
            while opening:
                connected.sendall(b"x")
                time.sleep(0.05)
            while connected.recv(4096):
                pass
        except OSError:
            return

    with canary(drip) as slow:
        began = time.monotonic()
        client = EgressClient(allow=LOOPBACK, total_s=0.4)
        with pytest.raises(TransientError, match=r"no answer within 0\.4 s"):
            client.request("GET", f"http://127.0.0.1:{slow.port}/", headers={})
        took_s = time.monotonic() - began

    assert took_s < 2.0


def test_tls_names_the_host_and_not_its_address() -> None:
    """The server sees the host name in the handshake, though the connection is to the checked address."""
    seen: list[bytes] = []

    def listen(connected: socket.socket) -> None:
        seen.append(connected.recv(4096))

    with canary(listen) as server:
        client = EgressClient(allow=Allowance.of(["hooks.example"]), resolver=lambda *_: ["127.0.0.1"])
        with pytest.raises(TransientError):
            client.request("POST", f"https://hooks.example:{server.port}/", headers={}, content=b"x")

    assert b"hooks.example" in seen[0]


def test_a_resolver_that_hangs_is_left_in_time() -> None:
    release = threading.Event()

    def hang(_host: str, _port: int) -> Sequence[str]:
        release.wait(20.0)
        return ["93.184.216.34"]

    began = time.monotonic()
    with pytest.raises(TransientError, match="cannot be resolved"):
        EgressClient(resolver=hang, connect_s=0.2).request("GET", "https://slow.example/", headers={})
    took_s = time.monotonic() - began
    release.set()

    assert took_s < 2.0
