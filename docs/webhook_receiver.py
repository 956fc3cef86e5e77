"""A receiver of the node's webhook, to try it and to copy from; only Python's standard library.

NOTICE_SECRET=... python docs/webhook_receiver.py --port 8081 --states states.json

It takes a notice if its signature and time are right, keeps the newest state of each study, and answers 204 only after
the state is on disk. Notices that come twice or too late change nothing.
"""

from __future__ import annotations

import argparse
import base64
import binascii
import hashlib
import hmac
import json
import os
import sys
import threading
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

MAX_BODY_BYTES = 65536
MAX_AGE_S = 300


def is_genuine(secret: bytes, headers: Mapping[str, str], body: bytes, *, now: float) -> bool:
    """Whether a request comes from somebody who knows the secret, and was signed within the last `MAX_AGE_S`."""
    identifier, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not timestamp.isdecimal() or abs(now - int(timestamp)) > MAX_AGE_S:
        return False
    wanted = hmac.new(secret, f"{identifier}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    for signature in headers.get("webhook-signature", "").split():  # several while a secret is replaced
        version, _, text = signature.partition(",")
        try:
            found = base64.b64decode(text, validate=True)
        except binascii.Error:
            continue
        if version == "v1" and hmac.compare_digest(found, wanted):
            return True
    return False


class States:
    """The newest state of each study, in a JSON file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._newest = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

    def take(self, notice: dict[str, object]) -> bool:
        """Keep a notice if it is newer than what is known of its study; return whether it was."""
        study = str(notice["study_instance_uid"])
        with self._lock:
            if study in self._newest and self._newest[study]["version"] >= notice["version"]:
                return False
            self._newest[study] = notice
            temporary = self._path.with_suffix(".new")
            with temporary.open("w", encoding="utf-8") as file:
                json.dump(self._newest, file, indent=1)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self._path)
            return True


def main() -> None:
    """Listen until interrupted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=8081)
    parser.add_argument("--states", type=Path, default=Path("states.json"))
    arguments = parser.parse_args()
    secret = base64.b64decode(os.environ["NOTICE_SECRET"].removeprefix("whsec_"))
    states = States(arguments.states)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            n_bytes = int(self.headers.get("Content-Length", 0))
            if n_bytes > MAX_BODY_BYTES:
                self.send_error(413)
                return
            body = self.rfile.read(n_bytes)
            if not is_genuine(secret, self.headers, body, now=time.time()):
                self.send_error(401)
                return
            notice = json.loads(body)
            sys.stdout.write(f"{'new' if states.take(notice) else 'known'} {body.decode()}\n")
            sys.stdout.flush()
            self.send_response(204)
            self.end_headers()

    ThreadingHTTPServer(("127.0.0.1", arguments.port), Handler).serve_forever()


if __name__ == "__main__":
    main()
