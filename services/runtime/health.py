"""/health and /metrics of a process, served from a thread so that they answer even when the event loop does not."""

import asyncio
import errno
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from socketserver import TCPServer, ThreadingMixIn
from threading import Lock, Thread
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from prometheus_client import CollectorRegistry, make_wsgi_app

from plugins.api.clock import Clock
from services.runtime.stopping import Stopping

_BEAT_S = 1.0
_WEDGED_S = 10.0
_REQUEST_S = 5.0


class PortTaken(OSError):
    """Another program listens on the configured port."""


@dataclass(frozen=True, slots=True)
class Report:
    """What a part last said of itself. since: milliseconds since 1970 UTC of the last change of ok."""

    ok: bool
    detail: str
    since: int
    at: float


class Health:
    """What the parts of the process say of themselves. A Part, the last in the service's list.

    GET /health answers 200, or 503 while a required part has not reported, is not ok, or has fallen silent, or while
    the event loop hangs: {status: ok|starting|failing, ready, missing: [name], failing: [name], parts: {name: {ok,
    detail, since}}}. GET /metrics answers in Prometheus' text format.
    """

    name = "health"

    def __init__(self, *, host: str, port: int, registry: CollectorRegistry, clock: Clock) -> None:
        """port: 0 takes a free one; the attribute tells which once `started` is set."""
        self.host = host
        self.port = port
        self.started = asyncio.Event()
        self._registry = registry
        self._clock = clock
        self._stopping = Stopping()
        self._required: dict[str, float | None] = {}
        self._reports: dict[str, Report] = {}
        self._beat = clock.monotonic()
        self._looks: list[Callable[[], None]] = []
        self._lock = Lock()

    def require(self, name: str, *, within_s: float | None = None) -> None:
        """The process is not healthy without this part's report; with within_s not without a fresh one."""
        with self._lock:
            self._required[name] = within_s

    def look(self, look: Callable[[], None]) -> None:
        """Calls this about once a second, in the event loop, while the process runs: it may report()."""
        self._looks.append(look)

    def report(self, name: str, ok: bool, detail: str = "") -> None:
        """A part says how it is. From any thread."""
        with self._lock:
            before = self._reports.get(name)
            since = before.since if before and before.ok == ok else self._clock.now_us() // 1000
            self._reports[name] = Report(ok, detail, since, self._clock.monotonic())

    def state(self) -> dict[str, Any]:
        """The answer to GET /health; it is healthy if `ready` is true."""
        with self._lock:
            required, reports = dict(self._required), dict(self._reports)
        now = self._clock.monotonic()
        if now - self._beat > _WEDGED_S:
            reports["loop"] = Report(False, f"the event loop hangs for {now - self._beat:.0f} s", self._since(now), now)
        for name, within_s in required.items():
            report = reports.get(name)
            if report and within_s is not None and now - report.at > within_s:
                detail = f"silent for {now - report.at:.0f} s; last said: {report.detail or report.ok}"
                reports[name] = Report(False, detail, report.since, report.at)
        missing = sorted(set(required) - set(reports))
        failing = sorted(
            name for name, report in reports.items() if not report.ok and (name in required or name == "loop")
        )
        return {
            "status": "failing" if failing else "starting" if missing else "ok",
            "ready": not failing and not missing,
            "missing": missing,
            "failing": failing,
            "parts": {
                name: {"ok": report.ok, "detail": report.detail, "since": report.since}
                for name, report in sorted(reports.items())
            },
        }

    async def run(self) -> None:
        """Serves until stop(). Raises PortTaken."""
        server = self._listen()
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, name="health", daemon=True)
        thread.start()
        self.port = server.server_port
        self.started.set()
        try:
            while not self._stopping.is_set():
                self._beat = self._clock.monotonic()
                for look in self._looks:
                    look()
                await self._stopping.within(_BEAT_S)
        finally:
            # Takes one poll interval at most; awaiting it in a thread would let a second cancellation leak the socket.
            server.shutdown()
            server.server_close()

    async def stop(self) -> None:
        """Ends the serving."""
        self._stopping.set()

    def _since(self, now: float) -> int:
        return (self._clock.now_us() - int((now - self._beat) * 1e6)) // 1000

    def _listen(self) -> "_Server":
        try:
            server = _Server((self.host, self.port), _Handler)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            raise PortTaken(error.errno, f"port {self.port} on {self.host} is taken; set another http_port") from None
        server.set_app(self._app(make_wsgi_app(self._registry)))
        return server

    def _app(self, metrics: WSGIApplication) -> WSGIApplication:
        def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
            """GET of /health and /metrics as a WSGI application (PEP 3333); else 404, or 405 for another method."""
            if environ["REQUEST_METHOD"] not in {"GET", "HEAD"}:
                return _answer(start_response, "405 Method Not Allowed", {"error": "only GET"})
            match environ["PATH_INFO"]:
                case "/health":
                    state = self.state()
                    return _answer(start_response, "200 OK" if state["ready"] else "503 Service Unavailable", state)
                case "/metrics":
                    return metrics(environ, start_response)
                case _:
                    return _answer(start_response, "404 Not Found", {"error": "there are /health and /metrics"})

        return app


def _answer(start_response: StartResponse, status: str, body: dict[str, Any]) -> Iterable[bytes]:
    data = json.dumps(body).encode() + b"\n"
    start_response(status, [("Content-Type", "application/json"), ("Content-Length", str(len(data)))])
    return [data]


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def server_bind(self) -> None:
        """Binds without the base class's reverse look-up of the host's name, which waits for an absent DNS server."""
        TCPServer.server_bind(self)
        host, port = self.socket.getsockname()
        self.server_name, self.server_port = host, port
        self.setup_environ()

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away in the middle of its answer is no news; the base class would print a traceback."""


class _Handler(WSGIRequestHandler):
    timeout = _REQUEST_S

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - named so by the base class
        """Says nothing: a probe every few seconds would bury everything else."""
