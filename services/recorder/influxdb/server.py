"""The way to an InfluxDB, or to what speaks its v2 write API: one request of lines, and what the answer means.

influxdb-client's WriteService rather than its WriteApi: that one's batching mode gives a batch up after some retries
and forgets it, and both its modes compress at level 9, twelve times the cost of level 1 (contracts/decisions/0004).
Source: InfluxDB OSS v2 API, POST /api/v2/write.
"""

import gzip
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec
from influxdb_client.client.influxdb_client import InfluxDBClient
from influxdb_client.rest import ApiException
from influxdb_client.service.write_service import WriteService
from urllib3.exceptions import HTTPError

from plugins.api.document import DocumentError
from services.recorder.spool.store import StoreUnavailable

_write_service: Any = WriteService  # influxdb-client is only half annotated
_DROPPED = re.compile(r"dropped=(\d+)")
_TAKEN, _TAKEN_IN_PART = 204, 201
_UNAUTHORIZED = 401
_REFUSALS = frozenset({400, 413, 422})
_LONGEST_REASON = 500
LONGEST_WAIT_S = 300.0
"""However long a server asks us to wait: it may be wrong, or back sooner."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The server takes some or all lines of a request not now and not later.

    reason: the first one, as the server words it. dropped: how many, where it says so.
    """

    reason: str
    dropped: int | None


def judge(status: int, headers: Mapping[str, str], body: bytes | str) -> Refused | None:
    """What an answer means for the lines: None if all were taken. Raises StoreUnavailable where they may be later.

    204 alone says that they were: 201 is said of a part of them, and 200 by a proxy, a login page, another program.
    """
    if status == _TAKEN:
        return None
    if status == _TAKEN_IN_PART:
        return Refused(f"{status}: the server has taken a part", None)
    if 200 <= status < 300:
        what = f"HTTP {status} in place of 204: what answers is no InfluxDB, but a proxy or another program"
        raise StoreUnavailable(what, reason=str(status))
    reason = _reason(body) or "no reason given"
    if status in _REFUSALS:
        dropped = _DROPPED.search(reason)
        return Refused(f"{status}: {reason}", int(dropped[1]) if dropped else None)
    raise StoreUnavailable(f"HTTP {status}: {reason}", reason=str(status), retry_after_s=_wait_s(headers))


def _wait_s(headers: Mapping[str, str]) -> float:
    """How long Retry-After asks us to wait; 0 if it does not, or not in a form that there is (RFC 9110, 10.2.3).

    A time is taken against that of the answer (Date): the server's clock may be another than ours.
    """
    asked = headers.get("Retry-After", "").strip()
    if asked.isascii() and asked.isdecimal():
        return min(float(asked), LONGEST_WAIT_S)
    try:
        until, now = parsedate_to_datetime(asked), parsedate_to_datetime(headers.get("Date", ""))
        return min(max((until - now).total_seconds(), 0.0), LONGEST_WAIT_S)
    except (ValueError, TypeError):  # no date, or one without its zone
        return 0.0


class InfluxServer:
    """One bucket of a server. Blocking: to be called in threads.

    url: scheme, host and port. timeout_s: for connecting, and again for the answer. compress: on the way there.
    new_token: where it is to be had once the server knows ours no more; raises DocumentError.
    """

    def __init__(
        self,
        *,
        url: str,
        org: str,
        bucket: str,
        token: str | None,
        timeout_s: float,
        compress: bool = True,
        new_token: Callable[[], str] | None = None,
    ) -> None:
        self._compress = compress
        self._new_token = new_token
        self._org = org
        self._bucket = bucket
        # The client will not be without a token; a server that asks for none (VictoriaMetrics) does not look at it.
        self._client: Any = InfluxDBClient(
            url.rstrip("/"), token=token or "none", org=org, timeout=round(timeout_s * 1000), retries=False
        )
        self._api: Any = _write_service(self._client.api_client)

    def post(self, blocks: Sequence[bytes]) -> Refused | None:
        """Writes blocks of lines; returns once they can be queried. Raises StoreUnavailable."""
        body, how = b"\n".join(blocks), {"content_type": "text/plain; charset=utf-8"}
        if self._compress:
            body, how["content_encoding"] = gzip.compress(body, compresslevel=1), "gzip"
        try:
            _, status, headers = self._api.post_write_with_http_info(
                self._org, self._bucket, body, precision="us", **how
            )
        except ApiException as error:
            if error.status == _UNAUTHORIZED:
                self._renew()
            if not error.status:  # there was no answer: the way there cannot be trusted
                raise StoreUnavailable(str(error.reason), reason="connection") from None
            return judge(error.status, error.headers or {}, error.body or b"")
        except HTTPError as error:
            raise StoreUnavailable(str(error), reason="connection") from None
        except UnicodeDecodeError:  # by the client, which reads each answer as text
            what = "an answer that is not UTF-8: what answers is no InfluxDB, but a proxy or another program"
            raise StoreUnavailable(what, reason="strange") from None
        return judge(status, headers, b"")

    def _renew(self) -> None:
        """For the next request. Raises StoreUnavailable."""
        if self._new_token is None:
            return
        try:
            token = self._new_token()
        except DocumentError as error:
            raise StoreUnavailable(str(error), reason=str(_UNAUTHORIZED)) from None
        self._client.api_client.set_default_header("Authorization", f"Token {token}")

    def close(self) -> None:
        """Closes the connection."""
        self._client.close()


def _reason(body: bytes | str) -> str:
    """The reason in an answer of version 2 ("message") or 1 ("error"), else its text."""
    try:
        said = msgspec.json.decode(body, type=dict[str, object])
    except (msgspec.DecodeError, UnicodeDecodeError):
        text = body if isinstance(body, str) else body.decode(errors="replace")
        return text.strip()[:_LONGEST_REASON]
    return str(said.get("message") or said.get("error") or said)[:_LONGEST_REASON]
