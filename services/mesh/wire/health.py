"""Probes and metrics on a plain HTTP port that serves nothing else: /livez, /readyz, /metrics."""

import json
import threading
from collections.abc import Callable, Iterable, Mapping
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import make_wsgi_app

from services.mesh.wire.metrics import NOT_READY

Checks = Mapping[str, Callable[[], str]]
"""Name of a condition -> what is wrong with it, in a few words without secrets; empty if nothing."""


class HealthPort:
    """Serves the probes. Ready means that every check in `required` is empty; `reported` ones are only told."""

    def __init__(self, listen: str, required: Checks, reported: Checks) -> None:
        self._required, self._reported = required, reported
        self._metrics = make_wsgi_app()
        host, _, port = listen.rpartition(":")
        self._server = make_server(host, int(port), self._answer, _Server, _Quiet)
        self.port = self._server.server_port

    def start(self) -> None:
        """Serve in a thread of its own."""
        threading.Thread(target=self._server.serve_forever, name="health", daemon=True).start()

    def stop(self) -> None:
        """Close the port."""
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path == "/metrics":
            answered: Iterable[bytes] = self._metrics(environ, start_response)
            return answered
        if path == "/livez":
            return _json(start_response, "200 OK", {"live": True})
        if path == "/readyz":
            wrong = {name: problem for name, check in self._required.items() if (problem := check())}
            notes = {name: problem for name, check in self._reported.items() if (problem := check())}
            for name in self._required:
                NOT_READY.labels(name).set(name in wrong)
            status = "503 Service Unavailable" if wrong else "200 OK"
            return _json(start_response, status, {"ready": not wrong, "not_ready": wrong, "degraded": notes})
        return _json(start_response, "404 Not Found", {"paths": ["/livez", "/readyz", "/metrics"]})


class _Server(ThreadingMixIn, WSGIServer):
    """A thread for each visitor: one who says nothing, or a store that is slow to answer, holds up nobody else."""

    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    timeout = 5  # seconds for a client that connects and says nothing

    def log_message(self, format: str, *arguments: Any) -> None:
        """A probe is not worth a line."""


def _json(start_response: Callable[..., Any], status: str, body: dict[str, Any]) -> Iterable[bytes]:
    start_response(status, [("Content-Type", "application/json; charset=utf-8")])
    return [json.dumps(body, ensure_ascii=False).encode()]
