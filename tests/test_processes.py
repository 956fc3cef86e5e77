"""Real processes: kept running, restarted with patience, stopped in bounded time, gone when their supervisor is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from dicom_node.processes import ProcessSpec, RestartPolicy, supervise

QUICK = RestartPolicy(backoff_s=0.05, max_backoff_s=0.2, healthy_after_s=60.0)


def script(name: str, body: str) -> ProcessSpec:
    return ProcessSpec(name, (sys.executable, "-c", textwrap.dedent(body)))


def wait_until(holds: Callable[[], bool], timeout_s: float = 120.0) -> None:
    end = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def lines(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []


def test_the_wait_doubles_up_to_a_bound() -> None:
    policy = RestartPolicy(backoff_s=1.0, max_backoff_s=10.0)
    assert [policy.wait_s(n) for n in (1, 2, 3, 4, 5, 1000)] == [1.0, 2.0, 4.0, 8.0, 10.0, 10.0]


def test_a_process_that_dies_is_started_again_and_the_others_are_left_alone(tmp_path: Path) -> None:
    diary = tmp_path / "pids"
    note = f"import os, time; open({str(diary)!r}, 'a').write('{{}}' + str(os.getpid()) + '\\n')"
    specs = [
        script("dies", f"{note.format('d')}\nos.kill(os.getpid(), 9)"),
        script("stays", f"{note.format('s')}\ntime.sleep(300)"),
    ]
    stopping = threading.Event()
    thread = threading.Thread(target=supervise, args=(specs, stopping), kwargs={"policy": QUICK})
    thread.start()
    try:
        wait_until(lambda: len([line for line in lines(diary) if line.startswith("d")]) >= 3)
    finally:
        stopping.set()
        thread.join(60.0)
    assert not thread.is_alive()
    assert len([line for line in lines(diary) if line.startswith("s")]) == 1
    assert not any(is_running(int(line[1:])) for line in lines(diary))


def test_a_process_that_refuses_its_first_start_ends_everything_and_is_not_tried_again(tmp_path: Path) -> None:
    diary = tmp_path / "pids"
    note = f"import os, sys, time; open({str(diary)!r}, 'a').write(str(os.getpid()) + '\\n')"
    specs = [script("stays", f"{note}\ntime.sleep(300)"), script("refuses", f"{note}\ntime.sleep(0.5)\nsys.exit(2)")]
    assert supervise(specs, threading.Event(), policy=QUICK) == 2
    assert len(lines(diary)) == 2
    assert not any(is_running(int(pid)) for pid in lines(diary))


def test_a_process_that_is_not_needed_may_refuse_and_is_tried_again(tmp_path: Path) -> None:
    diary = tmp_path / "pids"
    note = f"import os, sys, time; open({str(diary)!r}, 'a').write('{{}}' + str(os.getpid()) + '\\n')"
    refuses = script("refuses", f"{note.format('r')}\nsys.exit(2)")
    specs = [script("stays", f"{note.format('s')}\ntime.sleep(300)"), replace(refuses, is_needed=False)]
    stopping = threading.Event()
    thread = threading.Thread(target=supervise, args=(specs, stopping), kwargs={"policy": QUICK})
    thread.start()
    try:
        wait_until(lambda: len([line for line in lines(diary) if line.startswith("r")]) >= 2)
    finally:
        stopping.set()
        thread.join(60.0)
    assert len([line for line in lines(diary) if line.startswith("s")]) == 1


def test_a_process_that_refuses_later_is_tried_again_like_any_other(tmp_path: Path) -> None:
    diary = tmp_path / "pids"
    note = f"import os, sys; open({str(diary)!r}, 'a').write(str(os.getpid()) + '\\n')"
    body = f"{note}\nsys.exit(1 if len(open({str(diary)!r}).read().split()) == 1 else 2)"
    stopping = threading.Event()
    thread = threading.Thread(target=supervise, args=([script("odd", body)], stopping), kwargs={"policy": QUICK})
    thread.start()
    try:
        wait_until(lambda: len(lines(diary)) >= 3)
    finally:
        stopping.set()
        thread.join(60.0)
    assert not thread.is_alive()


def test_a_process_that_does_not_stop_is_killed_in_time(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    deaf = script(
        "deaf",
        f"""
        import pathlib, signal, time, os
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        pathlib.Path({str(ready)!r}).write_text(str(os.getpid()))
        time.sleep(300)
        """,
    )
    stopping = threading.Event()
    thread = threading.Thread(target=supervise, args=([deaf], stopping), kwargs={"stop_timeout_s": 0.5})
    thread.start()
    wait_until(lambda: bool(lines(ready)))
    started = time.monotonic()
    stopping.set()
    thread.join(60.0)
    assert time.monotonic() - started < 30.0
    assert not is_running(int(ready.read_text()))


SUPERVISOR = """
import threading
from dicom_node.processes import ProcessSpec, stop_on_signals, supervise
import sys
stopping = threading.Event()
stop_on_signals(stopping.set)
child = '''
import os, pathlib, sys, time
from dicom_node.processes import end_with_supervisor
end_with_supervisor()
pathlib.Path(sys.argv[1]).write_text(str(os.getpid()))
time.sleep(300)
'''
supervise([ProcessSpec("child", (sys.executable, "-c", child, sys.argv[1]))], stopping)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_no_process_outlives_its_supervisor(tmp_path: Path, number: signal.Signals) -> None:
    pid_file = tmp_path / "pid"
    supervisor = subprocess.Popen(
        [sys.executable, "-c", SUPERVISOR, str(pid_file)], cwd=Path(__file__).resolve().parents[1], env=os.environ
    )
    try:
        wait_until(lambda: bool(lines(pid_file)))
        pid = int(pid_file.read_text())
        assert is_running(pid)
        supervisor.send_signal(number)
        assert supervisor.wait(60.0) == (-9 if number is signal.SIGKILL else 0)
        wait_until(lambda: not is_running(pid))
    finally:
        supervisor.kill()
        supervisor.wait()
