"""The way to an InfluxDB, or to what speaks its v2 write API: one request of lines, and what the answer means.

Plain HTTP rather than influxdb-client: its batching mode gives a batch up after some retries and forgets it, its
synchronous mode compresses at level 9, at twelve times the cost of level 1, and neither tells Retry-After.
Source: InfluxDB OSS v2 API, POST /api/v2/write.
"""

import gzip
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

import msgspec
import urllib3

from services.recorder.store import StoreUnavailable

_DROPPED = re.compile(r"dropped=(\d+)")
_REFUSALS = frozenset({400, 413, 422})
_LONGEST_REASON = 500


@dataclass(frozen=True, slots=True)
class Refused:
    """The server takes some or all lines of a request not now and not later.

    reason: the first one, as the server words it. dropped: how many, where it says so.
    """

    reason: str
    dropped: int | None


def judge(status: int, headers: Mapping[str, str], body: bytes) -> Refused | None:
    """What an answer means for the lines: None if all were taken. Raises StoreUnavailable where they may be later."""
    if 200 <= status < 300:
        return None
    reason = _reason(body) or "no reason given"
    if status in _REFUSALS:
        dropped = _DROPPED.search(reason)
        return Refused(f"{status}: {reason}", int(dropped[1]) if dropped else None)
    wait = headers.get("Retry-After", "")
    raise StoreUnavailable(
        f"HTTP {status}: {reason}", reason=str(status), retry_after_s=float(wait) if wait.isdecimal() else 0.0
    )


class InfluxServer:
    """One bucket of a server. Blocking: to be called in a thread, by one at a time.

    url: scheme, host and port. timeout_s: for connecting, and again for the answer.
    """

    def __init__(self, *, url: str, org: str, bucket: str, token: str | None, timeout_s: float) -> None:
        query = urlencode({"org": org, "bucket": bucket, "precision": "us"})
        self._url = f"{url.rstrip('/')}/api/v2/write?{query}"
        self._headers = {"Content-Type": "text/plain; charset=utf-8", "Content-Encoding": "gzip"}
        if token:
            self._headers["Authorization"] = f"Token {token}"
        self._pool = urllib3.PoolManager(
            timeout=urllib3.Timeout(connect=timeout_s, read=timeout_s), retries=False, num_pools=1, maxsize=1
        )

    def post(self, lines: Sequence[str]) -> Refused | None:
        """Writes the lines; returns once they can be queried. Raises StoreUnavailable."""
        body = gzip.compress("\n".join(lines).encode(), compresslevel=1)
        try:
            answer = self._pool.request("POST", self._url, body=body, headers=self._headers, redirect=False)
        except urllib3.exceptions.HTTPError as error:
            raise StoreUnavailable(str(error), reason="connection") from None
        return judge(answer.status, answer.headers, answer.data)

    def close(self) -> None:
        """Closes the connection."""
        self._pool.clear()


def _reason(body: bytes) -> str:
    """The reason in an answer of version 2 ("message") or 1 ("error"), else its text."""
    try:
        said = msgspec.json.decode(body, type=dict[str, object])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return body.decode(errors="replace").strip()[:_LONGEST_REASON]
    return str(said.get("message") or said.get("error") or said)[:_LONGEST_REASON]
