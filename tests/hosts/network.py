"""Several hosts on one machine: a network namespace for each, all on one switch, whose links can be cut and impaired.

What is started inside of a host, be it a process or a socket, has only that host's network (network_namespaces(7)).
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

SUBNET = "10.77.0"  # nothing else can be on it: no host has a way out
_SWITCH = "sw"
_CLONE_NEWNET = 0x40000000  # linux/sched.h
_IMPAIRED_MS, _LOST_PERCENT, _SLOW = 40, 2, "4mbit"


def why_no_namespaces() -> str | None:
    """Why network namespaces cannot be made here, in words; None if they can."""
    if shutil.which("ip") is None:
        return "ip is not installed (Debian: apt-get install iproute2)"
    if os.geteuid() != 0:
        return "network namespaces are made by root only"
    name = f"dn{os.getpid()}-try"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if made.returncode:
        return f"no network namespaces: {made.stderr.strip()}"
    linked = _ip("-n", name, "link", "add", "br0", "type", "bridge", check=False)
    _ip("netns", "delete", name)
    return f"no bridge in a network namespace: {linked.stderr.strip()}" if linked.returncode else None


@dataclass(frozen=True)
class Network:
    """A switch and its hosts, by name; the first has address ``SUBNET``.1."""

    prefix: str
    hosts: Sequence[str]

    def address(self, host: str) -> str:
        """Address of a host."""
        return f"{SUBNET}.{self.hosts.index(host) + 1}"

    def namespace(self, host: str) -> str:
        """Name of a host's network namespace."""
        return f"{self.prefix}-{host}"

    @contextmanager
    def inside(self, host: str) -> Iterator[None]:
        """Have this thread, and what it starts, in the network of a host for the time of the block."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            enter(self.namespace(host))
            try:
                yield
            finally:
                _set_namespace(home)
        finally:
            os.close(home)

    def cut(self, host: str) -> None:
        """Pull the cable of a host: connections stay open, and nothing passes."""
        self._switch("ip", "link", "set", f"v-{host}", "down")

    def mend(self, host: str) -> None:
        """Plug it in again."""
        self._switch("ip", "link", "set", f"v-{host}", "up")

    def impair(self, host: str) -> str:
        """Delay and lose packets of a host in both directions; say how."""
        delay = ("netem", "delay", f"{_IMPAIRED_MS}ms", "10ms", "loss", f"{_LOST_PERCENT}%")
        if self._switch("tc", "qdisc", "add", "dev", f"v-{host}", "root", *delay, check=False).returncode == 0:
            with self.inside(host):
                _run("tc", "qdisc", "add", "dev", "eth0", "root", *delay)
            return f"delayed by {_IMPAIRED_MS} ms and {_LOST_PERCENT} % lost each way (tc netem)"
        ways = [self._lose(host), self._slow(host)]
        return ", ".join(way for way in ways if way) or "not impaired: neither tc netem, tbf nor nft work here"

    def _lose(self, host: str) -> str | None:
        """Without netem: have the switch drop packets at random."""
        rules = "".join(
            f"add rule bridge loss forward {way} v-{host} numgen random mod 100 < {_LOST_PERCENT} drop\n"
            for way in ("iifname", "oifname")
        )
        chain = "add table bridge loss\nadd chain bridge loss forward { type filter hook forward priority 0; }\n"
        if shutil.which("nft") is None or self._switch("nft", chain + rules, check=False).returncode:
            return None
        return f"{_LOST_PERCENT} % lost each way (nft)"

    def _slow(self, host: str) -> str | None:
        """Without netem: have the switch queue what comes faster than a slow line takes it."""
        bucket = ("tbf", "rate", _SLOW, "burst", "16kb", "latency", "200ms")
        slowed = self._switch("tc", "qdisc", "add", "dev", f"v-{host}", "root", *bucket, check=False)
        return None if slowed.returncode else f"queued behind a line of {_SLOW}/s (tc tbf)"

    def _switch(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        with self.inside(_SWITCH):
            return _run(*command, check=check)

    def _make(self) -> None:
        switch = self.namespace(_SWITCH)
        _ip("netns", "add", switch)
        _ip("-n", switch, "link", "add", "br0", "type", "bridge")
        _ip("-n", switch, "link", "set", "br0", "up")
        for host in self.hosts:
            own = self.namespace(host)
            _ip("netns", "add", own)
            _ip("-n", own, "link", "set", "lo", "up")
            _ip("-n", own, "link", "add", "eth0", "type", "veth", "peer", "name", f"v-{host}", "netns", switch)
            _ip("-n", own, "addr", "add", f"{self.address(host)}/24", "dev", "eth0")
            _ip("-n", own, "link", "set", "eth0", "up")
            _ip("-n", switch, "link", "set", f"v-{host}", "master", "br0", "up")


@contextmanager
def network(*hosts: str) -> Iterator[Network]:
    """Hosts that reach each other and nothing else; gone, with their links, when the block ends."""
    made = Network(f"dn{os.getpid()}", hosts)
    with ExitStack() as stack:
        for host in (_SWITCH, *hosts):
            stack.callback(_ip, "netns", "delete", made.namespace(host), check=False)
        made._make()
        yield made


def enter(namespace: str) -> None:
    """Be in a network namespace from now on, with this thread and what it starts."""
    fd = os.open(Path("/run/netns") / namespace, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _set_namespace(fd)
    finally:
        os.close(fd)


def _set_namespace(fd: int) -> None:
    if ctypes.CDLL(None, use_errno=True).setns(fd, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


def _ip(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return _run("ip", *arguments, check=check)


def _run(*command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    with suppress(FileNotFoundError):
        return subprocess.run(command, capture_output=True, text=True, check=check, timeout=60)
    return subprocess.CompletedProcess(command, 127, "", f"{command[0]} is not installed")
