"""A small server for one page that looks at a run: this machine alone, any free port, until Ctrl-C."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from md_jax.errors import UserError, one_line
from md_jax.files import read_bytes, to_json
from md_jax.page.page import LARGEST_PAGE, PAGE
from md_jax.view import live

HOST = "127.0.0.1"
WAIT = 0.5  # seconds between two looks at a run that is still loading
HTML, JSON = "text/html; charset=utf-8", "application/json"


class Answers:
    """What is answered to the page, one question at a time; a motion is reckoned once for each checkpoint."""

    def __init__(self, run: live.Watched, tell: Callable[[str], None] = print) -> None:
        self._run, self._tell = run, tell
        self._lock = threading.Lock()
        self._told_of_end = False

    def to(self, address: str) -> tuple[int, str, bytes]:
        """(HTTP status, type, content) for the path of a request."""
        asked = urlsplit(address)
        if asked.path == f"/{PAGE}":
            return self._finished_page()
        if asked.path == "/favicon.ico":
            return 204, "image/x-icon", b""
        if asked.path not in ("/", "/live.json"):
            return 404, "text/plain", b"not found"
        step = parse_qs(asked.query).get("step", ["-1"])[0]
        seen = int(step) if step.isdecimal() else -1
        with self._lock:
            try:
                told = live.answer(self._run, seen if asked.path != "/" else -1)
            except UserError as error:  # the page says it, and asks again
                return 503, "text/plain; charset=utf-8", one_line(error).encode()
            if not told["going_on"] and not self._told_of_end:
                self._told_of_end = True
                self._tell(f"the run has ended: {told['status']}. Ctrl-C ends this, too.")
            if asked.path == "/":
                return 200, HTML, live.whole_page(self._run, told).encode()
            return 200, JSON, to_json(told).encode()

    def _finished_page(self) -> tuple[int, str, bytes]:
        try:
            return 200, HTML, read_bytes(self._run.folder / PAGE, LARGEST_PAGE)
        except UserError as error:
            return 404, "text/plain; charset=utf-8", one_line(error).encode()


def make_server(answers: Answers, port: int = 0) -> ThreadingHTTPServer:
    """The server, listening on this machine's own address.

    Args:
        answers: what it says.
        port: 0: any free one.

    Raises:
        UserError: the port cannot be had.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            # another site's page, whose name was made to point at this machine, names itself here
            name = (self.headers.get("Host") or "").partition(":")[0]
            known = name in (HOST, "localhost")
            status, kind, content = answers.to(self.path) if known else (403, "text/plain", b"this machine alone")
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing of single requests."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            """A browser that has gone away is no news."""

    try:
        return Server((HOST, port), Handler)
    except OSError as error:
        raise UserError(
            f"--port={port} cannot be used: {error.strerror or error}; leave it out for a free one."
        ) from error


def serve(folder: Path, port: int, show: Callable[[str], None], tell: Callable[[str], None] = print) -> None:
    """Look at the run in `folder` until the process is stopped.

    Args:
        folder: the run's.
        port: 0: any free one.
        show: called with the address as soon as it answers.
        tell: called with what happens to the run.

    Raises:
        UserError: there is no run that could be watched, or the port cannot be had.
    """
    if not live.is_ready(folder):
        tell("the run is still loading ...")
        while not live.is_ready(folder):
            time.sleep(WAIT)
    with make_server(Answers(live.watch(folder), tell), port) as server:
        show(f"http://{HOST}:{server.server_address[1]}/")
        server.serve_forever(poll_interval=0.2)
