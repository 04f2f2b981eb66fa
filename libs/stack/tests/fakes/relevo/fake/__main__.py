import os
import signal
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

journal = Path(os.environ["RELEVO_FILES"]) / "journal"


def note(line: str) -> None:
    with journal.open("a") as file:
        file.write(line + "\n")


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/crash":
            os._exit(3)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"{os.getpid()} {self.path}".encode())


def drain(*_: object) -> None:
    note("drained")
    sys.exit(0)


if sys.argv[1] == "migrate":
    note("migrated")
else:
    signal.signal(signal.SIGTERM, drain)
    HTTPServer(("127.0.0.1", int(os.environ["RELEVO_HTTP_PORT"])), Handler).serve_forever()
