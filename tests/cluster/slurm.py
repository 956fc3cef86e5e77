"""SLURM on one host, as root: munged, slurmctld and slurmd of Debian, with all their files in one folder."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.node_process import wait_for
from tests.peer_servers import free_port

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "sinfo", "scancel")


@contextmanager
def running_slurm() -> Iterator[Path]:
    """Start SLURM, and yield its slurm.conf; skip the test where it cannot run."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        pytest.skip(f"no SLURM: {', '.join(missing)} not installed; apt-get install slurm-wlm munge")
    if os.geteuid() != 0:
        pytest.skip("SLURM's daemons must be started by root")
    with tempfile.TemporaryDirectory(prefix="slurm-") as name:  # a short path, for the socket
        folder = Path(name)
        processes: list[subprocess.Popen[bytes]] = []
        try:
            yield _start(folder, processes)
        finally:
            for process in reversed(processes):
                process.terminate()
                process.wait(30)


def _start(folder: Path, processes: list[subprocess.Popen[bytes]]) -> Path:
    (folder / "munge").mkdir(mode=0o700)
    (folder / "key").write_bytes(secrets.token_bytes(64))
    (folder / "key").chmod(0o600)
    conf = folder / "slurm.conf"
    conf.write_text(_configuration(folder))
    env = {**os.environ, "SLURM_CONF": str(conf)}
    files = [f"--{kind}={folder}/munge/{kind}" for kind in ("socket", "pid-file", "log-file", "seed-file")]
    commands = (
        ["munged", "--foreground", "--force", f"--key-file={folder}/key", *files],
        ["slurmctld", "-D", "-i"],
        ["slurmd", "-D"],
    )
    for command in commands:
        with (folder / f"{command[0]}.out").open("wb") as output:
            processes.append(subprocess.Popen(command, stdout=output, stderr=output, env=env))
        if command[0] == "munged":
            wait_for("munged", (folder / "munge" / "socket").exists, timeout_s=30)

    def is_idle() -> bool:
        told = subprocess.run(["sinfo", "-h", "-o", "%t"], env=env, capture_output=True, text=True, timeout=30)
        return told.stdout.strip() == "idle"

    wait_for("an idle node of SLURM", is_idle, timeout_s=60)
    return conf


def _configuration(folder: Path) -> str:
    host = socket.gethostname().partition(".")[0]
    (folder / "state").mkdir()
    (folder / "spool").mkdir()
    return f"""\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={free_port()}
SlurmdPort={free_port()}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CryptoType=crypto/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
ReturnToService=2
MailProg=/bin/true
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs=8 RealMemory=16000 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
