"""A Dockerfile as instructions, and as a root folder made by executing them in a Debian that is a folder.

Only what the project's Dockerfile uses: ARG, FROM, ENV, RUN, WORKDIR and COPY are executed; what describes how a
container is started is kept. Layers are overlays on the base, so that stages are as separate as in an image.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

_LINE_END = re.compile(r"\\\n\s*")
_VARIABLE = re.compile(r"\$\{(\w+)\}|\$(\w+)")


@dataclass
class Stage:
    """One FROM and what follows it."""

    base: str
    name: str
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def last(self, word: str) -> str:
        """Argument of the last instruction of this kind."""
        return [argument for each, argument in self.instructions if each == word][-1]

    def argv(self, word: str) -> list[str]:
        """Argument of an instruction in JSON form."""
        return list(json.loads(self.last(word)))


def read_dockerfile(path: Path) -> tuple[dict[str, str], list[Stage]]:
    """Build arguments before the first stage, and the stages."""
    text = "\n".join(line for line in path.read_text().splitlines() if not line.startswith("#"))
    arguments: dict[str, str] = {}
    stages: list[Stage] = []
    for line in _LINE_END.sub(" ", text).splitlines():
        word, _, argument = line.partition(" ")
        if word == "ARG" and not stages:
            name, _, default = argument.partition("=")
            arguments[name] = default
        elif word == "FROM":
            base, _, name = argument.partition(" AS ")
            stages.append(Stage(base, name or str(len(stages))))
        elif word:
            stages[-1].instructions.append((word, argument.strip()))
    return arguments, stages


@dataclass(frozen=True)
class Host:
    """What the commands of a Dockerfile find in the machine that executes them.

    Attributes
    ----------
    env
        Variables that only these commands see, such as pip's.
    mounts
        Files and folders of this machine by the path at which they are seen.
    """

    env: Mapping[str, str]
    mounts: Mapping[str, Path]


class Builder:
    """Executes stages on overlays over one base folder; ``close`` removes what is mounted."""

    def __init__(self, base: Path, context: Path, folder: Path, host: Host) -> None:
        self._base, self._context, self._folder, self._host = base, context, folder, host
        self._roots: dict[str, Path] = {}
        self.log = folder / "build.log"

    def build(self, stage: Stage, arguments: Mapping[str, str]) -> tuple[Path, dict[str, str]]:
        """Execute a stage; its root folder, and the environment of what is started in it."""
        root = self._overlay(stage.name)
        env, args, workdir = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, {}, "/"
        for word, argument in stage.instructions:
            if word == "ARG":
                name, _, default = argument.partition("=")
                args[name] = arguments.get(name, default)
            elif word == "ENV":
                env |= dict(each.split("=", 1) for each in shlex.split(_expanded(argument, env)))
            elif word == "WORKDIR":
                workdir = argument
                (root / workdir.lstrip("/")).mkdir(parents=True, exist_ok=True)
            elif word == "COPY":
                self._copy(argument.split(), root, workdir)
            elif word == "RUN":
                self._run(argument, root, workdir, {**env, **args})
        return root, env

    def close(self) -> None:
        for root in self._roots.values():
            subprocess.run(["umount", "--lazy", str(root)], check=False)

    def _overlay(self, name: str) -> Path:
        root = self._folder / name / "root"
        for folder in ("root", "upper", "work"):
            (self._folder / name / folder).mkdir(parents=True)
        options = f"lowerdir={self._base},upperdir={root.parent / 'upper'},workdir={root.parent / 'work'}"
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, str(root)], check=True)
        self._roots[name] = root
        return root

    def _copy(self, words: list[str], root: Path, workdir: str) -> None:
        source_root = self._context
        if words[0].startswith("--from="):
            source_root = self._roots[words.pop(0).removeprefix("--from=")]
        *sources, target = words
        to = root / (target if target.startswith("/") else f"{workdir}/{target}").lstrip("/")
        for source in sources:
            path = source_root / source.lstrip("/")
            if path.is_dir():
                left_out = ("__pycache__",) if source_root == self._context else ()
                ignore = shutil.ignore_patterns(*left_out)
                shutil.copytree(path, to, symlinks=True, dirs_exist_ok=True, ignore=ignore)
            else:
                into = to / path.name if target.endswith("/") else to
                into.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, into)

    def _run(self, command: str, root: Path, workdir: str, env: Mapping[str, str]) -> None:
        script = "\n".join(
            [
                "set -e",
                *(_bind(source, root / at.lstrip("/")) for at, source in self._host.mounts.items()),
                f"mount -t proc proc {root}/proc",
                f"exec chroot {root} /bin/sh -c {shlex.quote(f'cd {workdir} && {command}')}",
            ]
        )
        with self.log.open("a") as log:
            log.write(f"RUN {command}\n")
            log.flush()
            argv = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "/bin/sh", "-c", script]
            done = subprocess.run(
                argv, env={**self._host.env, **env}, stdout=log, stderr=subprocess.STDOUT, check=False
            )
        if done.returncode:
            tail = "\n".join(self.log.read_text().splitlines()[-30:])
            raise AssertionError(f"RUN {command} ended with {done.returncode}:\n{tail}")


def _bind(source: Path, at: Path) -> str:
    """Shell line that shows a path of this machine at another one."""
    make = f"mkdir -p {at}" if source.is_dir() else f"mkdir -p {at.parent} && touch {at}"
    return f"{make} && mount --rbind {source} {at}"


def _expanded(text: str, env: Mapping[str, str]) -> str:
    return _VARIABLE.sub(lambda found: env.get(found[1] or found[2], ""), text)


def pip_of_this_machine() -> Host:
    """Let pip in a root folder ask the registry that this machine is set up for, by its own certificates."""
    mounts = {str(path): path for path in map(Path, ("/dev", "/etc/hosts", "/etc/resolv.conf"))}
    env = {name: value for name, value in os.environ.items() if name.startswith("PIP_") or name.endswith("_proxy")}
    configured = Path("/etc/pip.conf"), Path.home() / ".config/pip/pip.conf"
    local = [Path(word.removeprefix("file://")) for word in _pip_words() if word.startswith(("/", "file:///"))]
    # The pages of an index name files next to the folder of pages.
    folders = [path.parent if path.name == "simple" else path for path in local if path.is_dir()]
    mounts |= {str(path): path for path in (configured[0], *folders) if path.exists()}
    if configured[1].exists():
        mounts["/etc/xdg/pip/pip.conf"] = configured[1]
    if certificates := env.get("PIP_CERT"):
        mounts["/run/registry.crt"], env["PIP_CERT"] = Path(certificates), "/run/registry.crt"
    return Host({**env, "DEBIAN_FRONTEND": "noninteractive"}, mounts)


def _pip_words() -> Iterator[str]:
    listed = subprocess.run(["python3", "-m", "pip", "config", "list"], capture_output=True, text=True, check=False)
    for line in listed.stdout.splitlines():
        yield from line.partition("=")[2].strip("'\" ").split()
