"""InfluxDB's v2 write API in front of a real InfluxDB 1: /api/v2/write becomes /write, the answers version 2's."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from socketserver import ThreadingMixIn
from threading import Thread
from urllib.parse import parse_qs, urlencode
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer
from wsgiref.types import StartResponse, WSGIEnvironment

import urllib3

TOKEN = "test-token"
PHRASES = {204: "No Content", 401: "Unauthorized", 422: "Unprocessable Entity"}


def answer(behind: str, environ: WSGIEnvironment) -> tuple[int, str]:
    """Status and message, as version 2 would give them."""
    if environ["PATH_INFO"] != "/api/v2/write" or environ.get("HTTP_AUTHORIZATION") != f"Token {TOKEN}":
        return 401, "unauthorized access"
    asked = {key: values[0] for key, values in parse_qs(environ["QUERY_STRING"]).items()}
    query = urlencode({"db": asked["bucket"], "precision": {"us": "u"}[asked["precision"]]})
    body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
    headers = {"Content-Encoding": environ.get("HTTP_CONTENT_ENCODING", "identity")}
    try:
        given = urllib3.request("POST", f"{behind}/write?{query}", body=body, headers=headers, retries=False)
    except urllib3.exceptions.HTTPError as error:
        return 503, str(error)
    reason = "" if given.status == 204 else given.json()["error"]
    return (422 if given.status == 400 and "partial write" in reason else given.status), reason


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Handler(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        """Says nothing."""


@contextmanager
def influx_proxy(behind: str) -> Iterator[str]:
    """Gives the URL of the v2 API, while it runs. behind: URL of the InfluxDB 1."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        status, message = answer(behind, environ)
        body = b"" if status == 204 else json.dumps({"code": "invalid", "message": message}).encode()
        start_response(f"{status} {PHRASES.get(status, 'Other')}", [("Content-Length", str(len(body)))])
        return [body]

    with _Server(("127.0.0.1", 0), _Handler) as server:
        server.set_app(app)
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
