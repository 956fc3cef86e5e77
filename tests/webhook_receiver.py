"""The receiver of docs/webhook_receiver.py as a process of its own, on loopback."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tests.peer_servers import PORT_ATTEMPTS, _listens, _spawn, _stop, _wait_until, free_port

PROGRAM = Path(__file__).resolve().parents[1] / "docs" / "webhook_receiver.py"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # of the examples of Standard Webhooks


@dataclass(frozen=True, slots=True)
class WebhookReceiver:
    """A running receiver; ``states`` is the file that it keeps."""

    port: int
    states: Path
    log: Path
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/notices"

    def taken(self) -> list[tuple[str, dict[str, Any]]]:
        """Each notice that was genuine, in order: whether it was new or known, and its body."""
        lines = [line for line in self.log.read_text().splitlines() if line.startswith(("new ", "known "))]
        return [(line.split(" ", 1)[0], json.loads(line.split(" ", 1)[1])) for line in lines]

    def new_states(self, study_instance_uid: str) -> list[str]:
        """States of a study that were news, in order."""
        return [
            str(body["state"])
            for news, body in self.taken()
            if news == "new" and body["study_instance_uid"] == study_instance_uid
        ]


@contextmanager
def start_webhook_receiver(folder: Path, *, port: int | None = None, secret: str = SECRET) -> Iterator[WebhookReceiver]:
    """Start it; the same folder again is the same receiver, restarted."""
    folder.mkdir(parents=True, exist_ok=True)
    states, log = folder / "states.json", folder / "receiver.log"
    for _ in range(PORT_ATTEMPTS):
        chosen = port or free_port()
        command = [sys.executable, str(PROGRAM), "--port", str(chosen), "--states", str(states)]
        process = _spawn(command, log, {"NOTICE_SECRET": secret})
        try:
            if not _wait_until(partial(_listens, chosen), process):
                continue
            yield WebhookReceiver(chosen, states, log, process)
            return
        finally:
            _stop(process)
    raise RuntimeError(f"the receiver did not start; see {log}")
