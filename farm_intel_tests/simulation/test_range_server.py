"""The range server serves exact bytes, counts exactly, and shows the faults it is told to."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from farm_intel.simulation.range_faults import Fault, FaultKind
from farm_intel.simulation.range_server import RangeServer

BODY = bytes(range(256)) * 4000


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "a.bin").write_bytes(BODY)
    return tmp_path


def ask(base: str, path: str, byte_range: str = "", method: str = "GET") -> tuple[http.client.HTTPResponse, bytes]:
    connection = http.client.HTTPConnection(base.partition("://")[2], timeout=5)
    connection.request(method, path, headers={"Range": f"bytes={byte_range}"} if byte_range else {})
    response = connection.getresponse()
    return response, response.read()


@pytest.mark.parametrize(
    ("byte_range", "expected", "status"),
    [
        ("", BODY, 200),
        ("0-0", BODY[:1], 206),
        ("10-19", BODY[10:20], 206),
        ("1023990-9999999", BODY[1023990:], 206),
        ("1023000-", BODY[1023000:], 206),
        ("-7", BODY[-7:], 206),
        ("9999999-", b"", 416),
    ],
)
def test_ranges_are_exact(root: Path, byte_range: str, expected: bytes, status: int) -> None:
    with RangeServer(root) as server:
        response, body = ask(server.base_url, "/a.bin", byte_range)

        assert (response.status, body) == (status, expected)
        assert server.counters.bytes_sent == len(expected)
        assert server.counters.requests == server.counters.per_path["a.bin"] == 1


def test_head_sends_no_body(root: Path) -> None:
    with RangeServer(root) as server:
        response, body = ask(server.base_url, "/a.bin", method="HEAD")

        assert response.getheader("content-length") == str(len(BODY))
        assert body == b""


@pytest.mark.parametrize("path", ["/none.bin", "/../range.txt", "/%2e%2e/range.txt"])
def test_nothing_outside_the_folder_is_served(root: Path, path: str) -> None:
    (root.parent / "range.txt").write_text("private")
    with RangeServer(root) as server:
        assert ask(server.base_url, path)[0].status == 404


def test_latency_delays_the_answer(root: Path) -> None:
    with RangeServer(root, latency_s=0.05) as server:
        started = time.perf_counter()
        ask(server.base_url, "/a.bin", "0-9")

        assert time.perf_counter() - started >= 0.05


def test_faults_strike_as_often_as_told_and_where_told(root: Path) -> None:
    with RangeServer(root) as server:
        server.fail(Fault(pattern="a.*", status=429, retry_after="3", times=2, skip=1))
        statuses = [ask(server.base_url, "/a.bin", "0-9")[0] for _ in range(4)]
        server.fail(Fault(pattern="*", status=502, min_start=100, body=b"<html>"))

        assert [response.status for response in statuses] == [206, 429, 429, 206]
        assert statuses[1].getheader("retry-after") == "3"
        assert ask(server.base_url, "/a.bin", "0-9")[0].status == 206
        assert ask(server.base_url, "/a.bin", "100-109")[1] == b"<html>"


def test_truncated_bodies_announce_more_than_they_send(root: Path) -> None:
    with RangeServer(root) as server:
        server.fail(Fault(pattern="*", kind=FaultKind.TRUNCATED))

        with pytest.raises(http.client.IncompleteRead) as caught:
            ask(server.base_url, "/a.bin", "0-999")

    assert len(caught.value.partial) == 500


def test_resets_send_nothing(root: Path) -> None:
    with RangeServer(root) as server:
        server.fail(Fault(pattern="*", kind=FaultKind.RESET))

        with pytest.raises((ConnectionError, http.client.RemoteDisconnected)):
            ask(server.base_url, "/a.bin", "0-999")


def test_corrupt_bodies_keep_their_length(root: Path) -> None:
    with RangeServer(root) as server:
        server.fail(Fault(pattern="*", kind=FaultKind.CORRUPT))

        assert ask(server.base_url, "/a.bin", "0-9")[1] == bytes(255 - byte for byte in BODY[:10])


def test_the_process_serves_and_tells_its_counters(root: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    module = "farm_intel.simulation.range_server"
    process = subprocess.Popen(
        [sys.executable, "-m", module, str(root), "--port", str(port), "--latency-ms", "1"], stdout=subprocess.DEVNULL
    )
    try:
        base = f"http://127.0.0.1:{port}"
        for _ in range(100):
            try:
                _, body = ask(base, "/a.bin", "0-9")
                break
            except ConnectionRefusedError:
                time.sleep(0.1)
        assert body == BODY[:10]
        counted = json.loads(ask(base, "/__counters")[1])
        assert (counted["requests"], counted["bytes_sent"]) == (1, 10)
        ask(base, "/__reset")
        assert json.loads(ask(base, "/__counters")[1])["requests"] == 0
    finally:
        process.kill()
        process.wait(20)
