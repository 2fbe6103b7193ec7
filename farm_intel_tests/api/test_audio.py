"""Speech by its hash: whole, in ranges, to those who were sent it, and nothing else from the disk."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from farm_intel_tests.api.support import FakeAudio, World, bearer

CONTENT = bytes(range(256)) * 4


@pytest.fixture
def client(world: World) -> Iterator[TestClient]:
    with TestClient(world.app(), raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def path(world: World) -> str:
    sha256 = world.audio.add(CONTENT)
    world.tell("anna", "farm-a", payload={"audio": {"sha256": sha256, "duration_s": 1.0}})
    return f"/v1/audio/{sha256}"


def get(client: TestClient, path: str, user: str = "anna", **headers: str) -> Any:
    return client.get(path, headers=bearer(user) | {name.replace("_", "-"): value for name, value in headers.items()})


def test_who_was_sent_it_gets_it(client: TestClient, path: str) -> None:
    answer = get(client, path)

    assert (answer.status_code, answer.content) == (200, CONTENT)
    assert answer.headers["content-type"] == "audio/wav"
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["cache-control"].startswith("private")


def test_others_do_not_learn_that_it_exists(world: World, client: TestClient, path: str) -> None:
    unknown = get(client, f"/v1/audio/{'0' * 64}", "ben")
    others = get(client, path, "ben")

    assert (unknown.status_code, others.status_code) == (404, 404)
    assert others.json()["detail"] == unknown.json()["detail"].replace("0" * 64, path[-64:])
    world.grants.revoked.add(("anna", "farm-a"))
    assert get(client, path).status_code == 404


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [
        ("0-0", 0, 1),
        ("0-99", 0, 100),
        ("1000-", 1000, 1024),
        ("-24", 1000, 1024),
        ("-9999", 0, 1024),
        ("1023-9999", 1023, 1024),
    ],
)
def test_ranges(client: TestClient, path: str, asked: str, start: int, stop: int) -> None:
    answer = get(client, path, Range=f"bytes={asked}")

    assert (answer.status_code, answer.content) == (206, CONTENT[start:stop])
    assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/1024"


@pytest.mark.parametrize("asked", ["1024-", "5000-6000", "-0", "9-3"])
def test_ranges_outside_the_file(client: TestClient, path: str, asked: str) -> None:
    answer = get(client, path, Range=f"bytes={asked}")

    assert (answer.status_code, answer.headers["content-range"]) == (416, "bytes */1024")
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("asked", ["lines=0-1", "bytes=a-b", "bytes=-", "bytes=0-1,5-6", "bytes=" + "9" * 4000 + "-"])
def test_ranges_that_are_not_understood_are_ignored(client: TestClient, path: str, asked: str) -> None:
    assert get(client, path, Range=asked).status_code == 200


def test_a_range_of_another_version_gives_the_whole(client: TestClient, path: str) -> None:
    etag = get(client, path).headers["etag"]

    assert get(client, path, Range="bytes=0-1", If_Range=etag).status_code == 206
    assert get(client, path, Range="bytes=0-1", If_Range='"other"').status_code == 200


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/passwd",
        "..%2f..%2fetc%2fpasswd",
        "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "..%5c..%5cwindows",
        "/etc/passwd",
        "%2fetc%2fpasswd",
        "a" * 63,
        "a" * 65,
        "A" * 64,
        "g" * 64,
        "a" * 64 + "%00",
        "a" * 64 + "%0a",
        "%25" * 64,
        "a" * 60 + "/../",
        "\u0660" * 64,
    ],
)
def test_nothing_but_a_hash_is_looked_up(world: World, name: str) -> None:
    watching = Watching()
    world.audio = watching
    with TestClient(world.app()) as client:
        answer = get(client, f"/v1/audio/{name}")

    assert answer.status_code in {404, 422}
    assert answer.headers["content-type"] == "application/problem+json"
    assert watching.asked == []


class Watching(FakeAudio):
    """Records what it is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def by_address(self, sha256: str) -> Any:
        self.asked.append(sha256)
        return super().by_address(sha256)


def test_a_file_that_was_changed_is_not_served(world: World, client: TestClient, path: str) -> None:
    world.audio.files[path[-64:]] = b"something else"

    assert get(client, path).status_code == 503
