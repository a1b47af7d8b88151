"""What an answer of the server means, and how the lines it refuses are told from the others."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.recorder.influxdb.server import LONGEST_WAIT_S, Refused, judge
from services.recorder.influxdb.store import deliver
from services.recorder.settings import InfluxSettings
from services.recorder.spool.store import StoreUnavailable


class Server:
    """Refuses some lines, as InfluxDB does: the others of the request are written. Counts requests."""

    def __init__(self, bad: set[bytes], *, all_or_nothing: bool) -> None:
        self.bad = bad
        self.all_or_nothing = all_or_nothing
        self.written: list[bytes] = []
        self.requests = 0

    def post(self, lines):
        self.requests += 1
        good = [line for line in lines if line not in self.bad]
        if len(good) == len(lines):
            self.written += lines
            return None
        if self.all_or_nothing:
            return Refused("400: unable to parse", None)
        self.written += good
        return Refused("422: partial write", len(lines) - len(good))

    def close(self) -> None: ...


@given(
    st.integers(0, 60).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.integers(0, max(n - 1, 0))))), st.booleans()
)
def test_every_good_line_is_written_and_every_bad_one_is_returned(case, all_or_nothing):
    n, bad = case
    lines = [b"line-%d" % at for at in range(n)]
    server = Server({b"line-%d" % at for at in bad}, all_or_nothing=all_or_nothing)
    if all_or_nothing and bad and len(bad & set(range(n))) > 19:
        return  # so many in a row may be taken for a wrong address: see below

    if all_or_nothing and n and bad >= set(range(n)):
        with pytest.raises(StoreUnavailable):
            deliver(server, lines)
        return
    dead = deliver(server, lines) if lines else []

    assert sorted(at for at, _ in dead) == [at for at, line in enumerate(lines) if line in server.bad]
    assert set(server.written) == {line for line in lines if line not in server.bad}


def test_a_request_of_which_the_server_says_it_dropped_all_is_not_searched():
    lines = [b"line-%d" % at for at in range(1000)]
    server = Server(set(lines), all_or_nothing=False)

    assert len(deliver(server, lines)) == 1000
    assert server.requests == 1


def test_a_server_that_takes_nothing_and_blames_no_line_is_configured_wrong_and_nothing_is_given_up():
    lines = [b"line-%d" % at for at in range(10_000)]
    server = Server(set(lines), all_or_nothing=True)

    with pytest.raises(StoreUnavailable, match="unable to parse") as caught:
        deliver(server, lines)

    assert caught.value.reason == "refused"
    assert server.requests < 60


def test_a_success_is_a_success():
    assert judge(204, {}, b"") is None


@pytest.mark.parametrize("status", [200, 202, 299])
def test_no_other_success_is_taken_for_one(status):
    with pytest.raises(StoreUnavailable, match=f"HTTP {status} in place of 204"):
        judge(status, {}, b"<html>Please log in</html>")


@pytest.mark.parametrize(
    ("status", "body", "refused"),
    [
        (201, b"", Refused("201: the server has taken a part", None)),
        (400, b'{"code":"invalid","message":"unable to parse"}', Refused("400: unable to parse", None)),
        (413, b"too large", Refused("413: too large", None)),
        (422, b'{"code":"x","message":"partial write: y dropped=12"}', Refused("422: partial write: y dropped=12", 12)),
        (422, b'{"error":"partial write"}', Refused("422: partial write", None)),
        (400, b"\xff", Refused("400: \ufffd", None)),
        (400, b"", Refused("400: no reason given", None)),
    ],
)
def test_a_refusal_of_the_lines_names_the_reason_and_the_number(status, body, refused):
    assert judge(status, {}, body) == refused


@pytest.mark.parametrize("status", [301, 401, 403, 404, 408, 429, 500, 502, 503, 504])
def test_any_other_answer_leaves_the_lines_for_later(status):
    with pytest.raises(StoreUnavailable, match=f"HTTP {status}: busy") as caught:
        judge(status, {}, b'{"message":"busy"}')

    assert caught.value.reason == str(status)
    assert caught.value.retry_after_s == 0


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"Retry-After": " 7 "}, 7.0),
        ({"Retry-After": "99999999"}, LONGEST_WAIT_S),
        ({"Retry-After": "9" * 400}, LONGEST_WAIT_S),
        ({"Retry-After": "0"}, 0.0),
        ({"Retry-After": "-5"}, 0.0),
        ({"Retry-After": "soon"}, 0.0),
        ({"Retry-After": "\u0667"}, 0.0),
        ({"Retry-After": "Wed, 21 Oct 2026 07:28:30 GMT", "Date": "Wed, 21 Oct 2026 07:28:00 GMT"}, 30.0),
        ({"Retry-After": "Wed, 21 Oct 2026 07:27:00 GMT", "Date": "Wed, 21 Oct 2026 07:28:00 GMT"}, 0.0),
        ({"Retry-After": "Fri, 23 Oct 2026 07:28:00 GMT", "Date": "Wed, 21 Oct 2026 07:28:00 GMT"}, LONGEST_WAIT_S),
        ({"Retry-After": "Wed, 21 Oct 2026 07:28:30", "Date": "Wed, 21 Oct 2026 07:28:00 GMT"}, 0.0),
        ({"Retry-After": "Wed, 21 Oct 2026 07:28:30 GMT"}, 0.0),
        ({}, 0.0),
    ],
)
def test_the_wait_that_the_server_asks_for_is_told(headers, seconds):
    with pytest.raises(StoreUnavailable) as caught:
        judge(503, headers, b"")

    assert caught.value.retry_after_s == seconds


@pytest.mark.parametrize(
    ("url", "gzip", "compressed"),
    [
        ("http://127.0.0.1:8086", None, False),
        ("http://LOCALHOST:8086", None, False),
        ("http://[::1]:8086", None, False),
        ("http://history:8086", None, True),
        ("http://127.0.0.1:8086", True, True),
        ("http://history:8086", False, False),
    ],
)
def test_requests_are_compressed_unless_the_server_is_on_this_machine_or_the_settings_say_otherwise(
    url: str, gzip: bool | None, compressed: bool
):
    assert InfluxSettings(kind="influxdb", url=url, bucket="b", gzip=gzip).compress is compressed
