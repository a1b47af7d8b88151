"""Stands before a database that takes writes over HTTP, and notes when it has taken them."""

import gzip
import re
import time
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import urllib3

_TIME = re.compile(rb"device=live,tag=tag-000 [^ ]* ([0-9]+)")


class Proxy(BaseHTTPRequestHandler):
    """Passes writes on and notes when live values were taken. behind: URL; v1: it is an InfluxDB 1."""

    behind = ""
    v1 = False
    taken: list[tuple[int, float]] = []  # noqa: RUF012 - of the one proxy of a run
    protocol_version = "HTTP/1.1"
    _pool = urllib3.PoolManager()

    def do_POST(self) -> None:
        """A write."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        asked = urllib.parse.parse_qs(urllib.parse.urlparse(self.path).query)
        url = f"{self.behind}/write?db={asked['bucket'][0]}&precision=u" if self.v1 else f"{self.behind}{self.path}"
        coding = self.headers["Content-Encoding"]
        headers = {"Content-Encoding": coding} if coding else {}
        try:
            answer = self._pool.request("POST", url, body=body, headers=headers, retries=False)
            status, said = answer.status, answer.data
        except urllib3.exceptions.HTTPError as error:
            status, said = 503, str(error).encode()
        now = time.time()
        if status == 204:
            times = {int(t) for t in _TIME.findall(gzip.decompress(body) if coding else body)}
            self.taken.extend((t, now - t / 1e6) for t in times)
        self.send_response(status)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@contextmanager
def proxy(behind: str, *, v1: bool) -> Iterator[str]:
    """Gives its URL."""
    Proxy.behind, Proxy.v1, Proxy.taken = behind, v1, []
    with ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
