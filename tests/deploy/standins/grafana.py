"""Answers GET /api/health on 3000 as Grafana does, and tells at /found what Grafana would find in its container."""

import json
import os
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

HISTORIES = ("http://history:8086/health",)
PROMETHEUS = "http://prometheus:9090/-/ready"


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


def found() -> dict[str, object]:
    scratch = Path("/var/lib/grafana/scratch")
    scratch.write_text("it may write here")
    return {
        "admin_password": len(Path(os.environ["GF_SECURITY_ADMIN_PASSWORD__FILE"]).read_text().strip()),
        "token": len(Path("/run/secrets/influxdb-token").read_text().strip()),
        "provisioning": sorted(str(path) for path in Path("/etc/grafana/provisioning").rglob("*.y*ml")),
        "dashboards": sorted(str(path) for path in Path("/var/lib/grafana/dashboards").rglob("*.json")),
        "history": any(answers(url) for url in HISTORIES),
        "prometheus": answers(PROMETHEUS),
    }


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = json.dumps(found() if self.path == "/found" else {"database": "ok"}).encode()
        self.send_response(200 if self.path in {"/found", "/api/health"} else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


if __name__ == "__main__":
    ThreadingHTTPServer(("0.0.0.0", 3000), Handler).serve_forever()
