"""Failures of servers and files become the right error, name the scene, hide the signature, and are really retried."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import numpy as np
import pytest
import rasterio

from farm_intel.domain.errors import SceneProblemError, SceneProblemKind, ThrottledError, TransientError
from farm_intel.engine.blocks import BlockReader
from farm_intel.providers.blocks.failures import error_for_store, parse_retry_after
from farm_intel.providers.blocks.locations import BandRef, Location, Scheme
from farm_intel.resilience.guard import PlainGuard
from farm_intel.resilience.retry import RetryPolicy
from farm_intel.simulation.range_faults import Fault, FaultKind
from farm_intel.simulation.range_server import RangeServer
from farm_intel_tests.providers.blocks_support import band, pixels, read_blocks, reference, use_reader, write_cog

KINDS = ("fast", "rasterio", "auto")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_cog(tmp_path / "scene" / "B04.tif", pixels(600, 600, "uint16"))


@pytest.fixture
def server(path: Path):
    with RangeServer(path.parent.parent) as running:
        yield running


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path) -> None:
    (tmp_path / "scene").mkdir()


def read_href(kind: str, href: object, **options: object) -> list[np.ndarray]:
    return read_blocks(kind, href, **options)[1]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (401, SceneProblemKind.ACCESS_DENIED),
        (403, SceneProblemKind.ACCESS_DENIED),
        (409, SceneProblemKind.ACCESS_DENIED),
        (404, SceneProblemKind.NOT_FOUND),
        (410, SceneProblemKind.NOT_FOUND),
    ],
)
def test_permanent_answers_are_scene_problems(
    server: RangeServer, kind: str, status: int, expected: SceneProblemKind
) -> None:
    server.fail(Fault(pattern="*", status=status, body=b"<html>no</html>", content_type="text/html"))

    with pytest.raises(SceneProblemError) as caught:
        read_href(kind, server.url("scene/B04.tif"))

    assert caught.value.kind is expected
    assert "S2_TEST" in str(caught.value)
    assert "red" in str(caught.value)
    assert "scene/B04.tif" in str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("status", [500, 502, 503])
def test_server_errors_are_transient_after_the_retries(server: RangeServer, kind: str, status: int) -> None:
    server.fail(Fault(pattern="*", status=status, body=b"<html>Bad gateway</html>", content_type="text/html"))

    with pytest.raises(TransientError, match="S2_TEST"):
        read_href(kind, server.url("scene/B04.tif"), retries=2)

    assert server.counters.requests >= 3


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fault", [FaultKind.RESET, FaultKind.TRUNCATED, FaultKind.SHORT])
def test_broken_transfers_heal_within_the_retries(path: Path, server: RangeServer, kind: str, fault: FaultKind) -> None:
    server.fail(Fault(pattern="*", kind=fault, times=2))

    blocks = read_href(kind, server.url("scene/B04.tif"))

    np.testing.assert_array_equal(blocks[0], reference(path, 0, 0, (256, 256), 0))
    np.testing.assert_array_equal(blocks[8], reference(path, 2, 2, (256, 256), 0))


@pytest.mark.parametrize("kind", KINDS)
def test_two_short_answers_to_one_block_heal(path: Path, server: RangeServer, kind: str) -> None:
    server.fail(Fault(pattern="*", kind=FaultKind.SHORT, times=2, min_start=100_000))

    _, blocks, _ = read_blocks(kind, server.url("scene/B04.tif"), [(2, 2)])

    np.testing.assert_array_equal(blocks[0], reference(path, 2, 2, (256, 256), 0))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fault", [FaultKind.RESET, FaultKind.TRUNCATED])
def test_broken_transfers_of_blocks_are_transient_when_they_last(
    server: RangeServer, kind: str, fault: FaultKind
) -> None:
    server.fail(Fault(pattern="*", kind=fault, min_start=1024))
    server.fail(Fault(pattern="*", kind=FaultKind.RESET, skip=3))

    with pytest.raises(TransientError, match="S2_TEST"):
        read_href(kind, server.url("scene/B04.tif"), retries=1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_stalled_body_times_out(server: RangeServer, kind: str) -> None:
    server.fail(Fault(pattern="*", kind=FaultKind.SLOW, delay_s=1.0))

    with pytest.raises(TransientError):
        read_href(kind, server.url("scene/B04.tif"), retries=0, timeout_s=1.0)


class Hurried(PlainGuard):
    """A caller whose deadline is near."""

    def remaining_s(self, default_s: float) -> float:
        return min(default_s, 0.5)


def test_a_stalled_range_ends_with_the_callers_deadline(server: RangeServer) -> None:
    """Not with the limit of a single range, which may be much longer."""
    server.fail(Fault(pattern="*", kind=FaultKind.SLOW, delay_s=20.0))
    began = time.monotonic()

    with pytest.raises(TransientError):
        read_href("fast", server.url("scene/B04.tif"), retries=0, timeout_s=30.0, guard=Hurried(RetryPolicy(retries=0)))

    assert time.monotonic() - began < 3.0


@pytest.mark.parametrize("kind", KINDS)
def test_nobody_listening_is_transient(kind: str) -> None:
    with pytest.raises(TransientError):
        read_href(kind, "http://127.0.0.1:9/scene/B04.tif", retries=0)


@pytest.mark.parametrize("kind", KINDS)
def test_throttling_tells_the_wait_in_seconds(server: RangeServer, kind: str) -> None:
    server.fail(Fault(pattern="*", status=429, retry_after="77"))

    with pytest.raises(ThrottledError) as caught:
        read_href(kind, server.url("scene/B04.tif"))

    assert caught.value.retry_after_s == 77


@pytest.mark.parametrize("kind", KINDS)
def test_throttling_tells_the_wait_as_a_date(server: RangeServer, kind: str) -> None:
    later = datetime.now(UTC) + timedelta(seconds=90)
    server.fail(Fault(pattern="*", status=429, retry_after=format_datetime(later, usegmt=True)))

    with pytest.raises(ThrottledError) as caught:
        read_href(kind, server.url("scene/B04.tif"))

    assert caught.value.retry_after_s == pytest.approx(90, abs=5)


@pytest.mark.parametrize("kind", KINDS)
def test_short_throttling_is_waited_out(server: RangeServer, kind: str) -> None:
    server.fail(Fault(pattern="*", status=429, retry_after="0", times=3))

    assert len(read_href(kind, server.url("scene/B04.tif"))) == 9


@pytest.mark.parametrize("text", ["", "soon", "-3", "Mon, 99 Foo"])
def test_nonsense_in_retry_after_is_no_wait(text: str) -> None:
    assert parse_retry_after(text) is None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("status", [403, 404, 429, 503])
def test_a_failed_open_is_not_remembered_in_this_process(server: RangeServer, kind: str, status: int) -> None:
    """GDAL alone answers the second open of such a URL from memory, without a request."""
    server.fail(Fault(pattern="*", status=status, retry_after="60"))
    with pytest.raises((SceneProblemError, TransientError)):
        read_href(kind, server.url("scene/B04.tif"), retries=0)
    server.faults.clear()
    server.reset()

    blocks = read_href(kind, server.url("scene/B04.tif"), retries=1)

    assert len(blocks) == 9
    assert server.counters.requests >= 2


@pytest.mark.parametrize("kind", KINDS)
def test_each_retry_makes_a_real_request(server: RangeServer, kind: str) -> None:
    server.fail(Fault(pattern="*", status=503, times=4 if kind == "rasterio" else 2))

    _, blocks, counters = read_blocks(kind, server.url("scene/B04.tif"))

    assert len(blocks) == 9
    assert counters.requests == server.counters.requests
    struck = [record for record in server.log or [] if record.start == 0]
    assert len(struck) >= 3


@pytest.mark.parametrize("kind", KINDS)
def test_a_corrupt_block_is_an_unreadable_file(server: RangeServer, kind: str) -> None:
    server.fail(Fault(pattern="*", kind=FaultKind.CORRUPT, min_start=1024))

    with pytest.raises(SceneProblemError) as caught:
        read_href(kind, server.url("scene/B04.tif"))

    assert caught.value.kind is SceneProblemKind.UNREADABLE_FILE


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("keep", [3, 100, 500, 20_000])
@pytest.mark.parametrize("remote", [False, True])
def test_a_truncated_file_is_unreadable(path: Path, server: RangeServer, kind: str, keep: int, *, remote: bool) -> None:
    path.write_bytes(path.read_bytes()[:keep])

    with pytest.raises(SceneProblemError) as caught:
        read_href(kind, server.url("scene/B04.tif") if remote else path)

    # GDAL forgives a cut directory and then finds no georeference in it: refused all the same.
    forgiven = {SceneProblemKind.MISSING_PROJECTION} if kind == "rasterio" else set()
    assert caught.value.kind in {SceneProblemKind.UNREADABLE_FILE} | forgiven


@pytest.mark.parametrize("kind", KINDS)
def test_a_login_page_instead_of_the_file_is_unreadable(server: RangeServer, path: Path, kind: str) -> None:
    (path.parent / "page.tif").write_text("<html>Please log in</html>" * 50)

    with pytest.raises(SceneProblemError) as caught:
        read_href(kind, server.url("scene/page.tif"))

    assert caught.value.kind is SceneProblemKind.UNREADABLE_FILE


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_local_file_is_not_found(tmp_path: Path, kind: str) -> None:
    with pytest.raises(SceneProblemError) as caught:
        read_href(kind, tmp_path / "none.tif")

    assert caught.value.kind is SceneProblemKind.NOT_FOUND


@pytest.mark.parametrize("kind", KINDS)
def test_secrets_stay_out_of_messages(server: RangeServer, kind: str) -> None:
    server.fail(Fault(pattern="*", status=403))
    href = server.url("scene/B04.tif").replace("http://", "http://user:hunter2@") + "?sig=topsecret"

    with pytest.raises(SceneProblemError) as caught:
        read_href(kind, href)

    message = str(caught.value)
    assert "topsecret" not in message
    assert "hunter2" not in message


@pytest.mark.parametrize("kind", KINDS)
def test_an_expired_signature_is_renewed_once(path: Path, kind: str) -> None:
    """A Planetary Computer blob: the first signature is refused, the second serves every request."""
    blob = "http://account.blob.core.windows.net/scene/B04.tif"
    asked: list[str] = []

    def sign(href: str) -> str:
        asked.append(href)
        return f"{href}?sv=2024&sig=number{len(asked)}"

    with RangeServer(path.parent.parent) as server:
        server.fail(Fault(pattern="*", status=403, without_query="sig=number2"))
        blocks = read_href(kind, blob, sign=sign, proxy_url=server.base_url)

        assert len(blocks) == 9
        assert asked == [blob, blob]
        assert all("sig=number" in record.query for record in server.log or [])


@pytest.mark.parametrize("kind", KINDS)
def test_a_signature_that_stays_refused_is_access_denied(path: Path, kind: str) -> None:
    with RangeServer(path.parent.parent) as server:
        server.fail(Fault(pattern="*", status=409))
        with pytest.raises(SceneProblemError) as caught:
            read_href(
                kind,
                "http://account.blob.core.windows.net/scene/B04.tif",
                sign=lambda href: f"{href}?sv=2024&sig=abc",
                proxy_url=server.base_url,
            )

    assert caught.value.kind is SceneProblemKind.ACCESS_DENIED
    assert "sig=abc" not in str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_counters_are_visible_while_reading(path: Path, kind: str) -> None:
    async def work(reader: BlockReader) -> list[int]:
        opened = await reader.open(band(path), scene_id="S")
        seen = [reader.counters().blocks_decoded]
        for col in range(3):
            await opened.read([(0, col)])
            seen.append(reader.counters().blocks_decoded)
        return seen

    assert use_reader(kind, work) == [0, 1, 2, 3]


@pytest.mark.parametrize(("kind", "cases"), [("fast", 200), ("auto", 40)])
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_flipped_bytes_in_a_header_are_scene_problems_or_harmless(path: Path, kind: str, cases: int) -> None:
    """Nothing a header claims may take the process down (async-tiff 0.7 aborted on an allocation of 96 GB here)."""
    rng = random.Random(3)
    good = path.read_bytes()
    refused = 0

    async def work(reader: BlockReader) -> None:
        nonlocal refused
        for _ in range(cases):
            hostile = bytearray(good)
            for _ in range(rng.choice([1, 2, 4, 16])):
                hostile[rng.randrange(rng.choice([16, 200, 700]))] = rng.randrange(256)
            await asyncio.to_thread(path.write_bytes, hostile)
            try:
                opened = await reader.open(band(path), scene_id="S")
                await opened.read([(0, 0)])
            except SceneProblemError:
                refused += 1

    use_reader(kind, work)

    assert cases * 0.2 < refused < cases


@pytest.mark.parametrize("remote", [False, True])
def test_a_header_behind_the_first_request_is_read_with_more(path: Path, *, remote: bool) -> None:
    """GDAL appends a rewritten directory at the end of the file."""
    with rasterio.open(path, "r+", IGNORE_COG_LAYOUT_BREAK="YES") as dataset:
        dataset.update_tags(note="x" * 5000)
    with RangeServer(path.parent) as server:
        _, blocks, counters = read_blocks("fast", server.url(path.name) if remote else path)

    assert counters.requests >= 3
    np.testing.assert_array_equal(blocks[4], reference(path, 1, 1, (256, 256), 0))


@pytest.mark.parametrize(
    ("scheme", "number", "expected"),
    [
        (Scheme.FILE, errno.EIO, SceneProblemError),
        (Scheme.FILE, errno.ESTALE, SceneProblemError),
        (Scheme.HTTP, errno.ECONNRESET, TransientError),
        (Scheme.S3, errno.ETIMEDOUT, TransientError),
    ],
)
def test_a_broken_disk_stays_broken_and_a_broken_connection_may_come_back(
    scheme: Scheme, number: int, expected: type[Exception]
) -> None:
    ref = BandRef(scene_id="S1", band="red", display="a place")
    broken = OSError(number, os.strerror(number))

    error = error_for_store(ref, Location(scheme=scheme, base="", path="B04.tif"), broken)

    assert isinstance(error, expected)
    assert "S1" in str(error)
