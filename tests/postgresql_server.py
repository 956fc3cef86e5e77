"""A real PostgreSQL for tests, on loopback and a free port, that can be stopped and started again."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import sqlalchemy as sa

from tests.peer_servers import free_port, missing

TIMEOUT_S = 60
OWNER = "postgres"  # the server refuses to run as root


@dataclass(frozen=True, slots=True)
class PostgresqlServer:
    """A server that trusts whoever asks on loopback."""

    folder: Path
    port: int
    is_durable: bool = False  # whether it syncs what it commits, which a killed server needs less than a killed machine
    listens_on: str = "127.0.0.1"  # addresses, as PostgreSQL wants them

    def url(self, database: str) -> str:
        """URL of a database, as an administrator would write it."""
        return f"postgresql://node@127.0.0.1:{self.port}/{database}"

    def create(self, database: str, *, template: str = "template1") -> str:
        """Create a database, empty or a copy of another that nobody uses; returns its URL."""
        self._run(f"CREATE DATABASE {database} TEMPLATE {template}")
        return self.url(database)

    def drop(self, database: str) -> None:
        """Remove a database, and end what still uses it."""
        self._run(f"DROP DATABASE {database} WITH (FORCE)")

    def n_connections(self, database: str) -> int:
        """How many connections to a database are open."""
        rows = self._run("SELECT count(*) FROM pg_stat_activity WHERE datname = :database", database=database)
        return int(rows[0][0])

    def _run(self, statement: str, **values: str) -> Sequence[sa.Row[Any]]:
        url = sa.make_url(self.url("postgres")).set(drivername="postgresql+pg8000")
        engine = sa.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
        with engine.connect() as connection:
            result = connection.execute(sa.text(statement), values)
            return result.all() if result.returns_rows else []

    def start(self) -> None:
        """Start it and wait until it answers."""
        options = f"-p {self.port} -k {self.folder} -c listen_addresses={self.listens_on}"
        options += "" if self.is_durable else " -c fsync=off -c full_page_writes=off"
        log = self.folder / "log"
        _run("pg_ctl", "-w", "-t", TIMEOUT_S, "-D", self.folder / "data", "-l", log, "-o", options, "start")

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Ended at once, so that open connections break; started again after the block."""
        self.stop()
        try:
            yield
        finally:
            self.start()

    def stop(self) -> None:
        """End it at once."""
        _run("pg_ctl", "-w", "-t", TIMEOUT_S, "-D", self.folder / "data", "-m", "immediate", "stop")


@contextmanager
def start_postgresql(*, is_durable: bool = False, trusts: str | None = None) -> Iterator[PostgresqlServer]:
    """A new, empty server; gone when the block ends. It also listens for and trusts a subnet, if there is one."""
    with TemporaryDirectory(prefix="postgresql-") as name:
        folder = Path(name)  # not below a test's folder, which only its user may enter
        if os.getuid() == 0:
            shutil.chown(folder, OWNER)
        server = PostgresqlServer(folder, free_port(), is_durable, "127.0.0.1" if trusts is None else "'*'")
        _run("initdb", "-D", folder / "data", "-A", "trust", "-U", "node", "--no-sync")
        if trusts is not None:
            with (folder / "data" / "pg_hba.conf").open("a") as rules:
                rules.write(f"host all node {trusts} trust\n")
        server.start()
        try:
            yield server
        finally:
            if (folder / "data" / "postmaster.pid").exists():
                server.stop()


def _run(program: str, *arguments: object) -> None:
    user = OWNER if os.getuid() == 0 else None
    subprocess.run(
        [_program(program), *map(str, arguments)],
        user=user, group=None if user is None else pwd.getpwnam(user).pw_gid, extra_groups=None if user is None else [],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True, timeout=2 * TIMEOUT_S, cwd="/",
    )  # fmt: skip


def _program(name: str) -> str:
    """Debian keeps the server's programs out of PATH."""
    installed = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    found = shutil.which(name) or (str(installed[-1]) if installed else None)
    if found is None:
        missing(f"{name} of PostgreSQL is not installed (Debian: apt-get install postgresql)")
    return found
