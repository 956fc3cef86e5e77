"""A Dask scheduler and workers as real processes that can be killed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.node_process import wait_for
from tests.peer_servers import free_port

ROOT = Path(__file__).parents[2]


class DaskProcesses:
    """A scheduler on loopback, and workers without a nanny: one that is killed stays away."""

    def __init__(self, folder: Path, *, tls: Mapping[str, Path] | None = None) -> None:
        self.folder = folder
        self.port = free_port()
        self._tls = [f"--tls-{name}={path}" for name, path in (tls or {}).items()]
        self._protocol = "tls" if tls else "tcp"
        self.scheduler: subprocess.Popen[bytes] | None = None
        self.workers: list[subprocess.Popen[bytes]] = []

    @property
    def url(self) -> str:
        return f"{self._protocol}://127.0.0.1:{self.port}"

    def start_scheduler(self) -> None:
        arguments = ["--host", "127.0.0.1", "--port", str(self.port), "--no-dashboard", "--protocol", self._protocol]
        self.scheduler = self._start("scheduler", arguments, {}, "Scheduler at:")

    def start_worker(
        self, *arguments: str, name: str = "worker", env: Mapping[str, str] | None = None, until: str = "Registered to"
    ) -> subprocess.Popen[bytes]:
        """Start a worker of two threads, and wait until the scheduler knows it."""
        usual = ["--no-nanny", "--nthreads", "2", "--memory-limit", "0", "--no-dashboard", "--host", "127.0.0.1"]
        local = ["--local-directory", str(self.folder), "--name", f"{name}-{len(self.workers)}"]
        worker = self._start("worker", [self.url, *usual, *local, *arguments], env or {}, until)
        self.workers.append(worker)
        return worker

    def stop(self) -> None:
        """End everything."""
        for process in (*self.workers, self.scheduler):
            if process is not None:
                process.kill()
                process.wait()

    def _start(
        self, command: str, arguments: Sequence[str], env: Mapping[str, str], until: str
    ) -> subprocess.Popen[bytes]:
        log = self.folder / f"{command}-{len(self.workers)}-{free_port()}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "dask", command, *arguments, *self._tls],
                stdout=output,
                stderr=output,
                cwd=self.folder,
                env={**os.environ, "DASK_LOGGING__DISTRIBUTED": "info", "PYTHONPATH": str(ROOT), **env},
            )

        def is_said() -> bool:
            assert process.poll() is None, log.read_text()
            return until in log.read_text()

        wait_for(f"{command} says {until}", is_said, timeout_s=120.0, step_s=0.05)
        return process
