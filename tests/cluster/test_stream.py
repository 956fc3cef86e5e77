"""Tasks over a cluster of real processes: none is lost and none is blamed for another's death."""

from __future__ import annotations

import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from dicom_node.cluster import connect
from dicom_node.cluster.address import RunningScheduler
from dicom_node.cluster.connect import open_cluster
from dicom_node.cluster.errors import ClusterLostError, ClusterWorkerKilledError, NoWorkersError
from dicom_node.cluster.sameness import Wanted, as_here
from dicom_node.cluster.security import ClusterCredentials
from tests.cluster.dask_processes import ROOT, DaskProcesses
from tests.cluster.tasks import Step, fail, take
from tests.node_process import wait_for

pytestmark = pytest.mark.crash


@dataclass
class Ran:
    """What came back, in the order in which it came."""

    results: list[tuple[int, object]] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)

    def names(self) -> list[str]:
        return sorted(str(result).split()[0] for _, result in self.results)

    def pids(self) -> set[int]:
        return {int(str(result).split()[1]) for _, result in self.results if not isinstance(result, BaseException)}


def run_all(
    dask: DaskProcesses,
    steps: Sequence[Step],
    *,
    function: Callable[[Step], str] = take,
    wanted: Wanted | None = None,
    on_result: Callable[[int], None] = lambda _: None,
) -> Ran:
    ran = Ran()
    with open_cluster(RunningScheduler(dask.url), ClusterCredentials(), allow_plain="") as cluster:
        for index, result in cluster.run(
            function,
            len(steps),
            steps.__getitem__,
            wanted or as_here(),
            on_refused=lambda worker, why: ran.refused.append((worker, why)),
            on_workers=lambda _: None,
        ):
            ran.results.append((index, result))
            on_result(len(ran.results))
    return ran


def steps(folder: Path, n: int, seconds: float = 0.0) -> list[Step]:
    return [Step(folder, f"step{index:03}", seconds) for index in range(n)]


def begun(folder: Path) -> Counter[str]:
    return Counter(line.split()[0] for line in (folder / "begun").read_text().splitlines())


def test_a_killed_worker_loses_and_doubles_no_result(dask: DaskProcesses, tmp_path: Path) -> None:
    killed, _ = dask.start_worker(), dask.start_worker()

    ran = run_all(
        dask,
        steps(tmp_path, 12, seconds=0.5),
        on_result=lambda n: killed.kill() if n == 3 else None,
    )

    assert [index for index, _ in sorted(ran.results)] == list(range(12))
    assert ran.names() == [step.name for step in steps(tmp_path, 12)]
    assert len(ran.pids()) == 2
    assert 12 < sum(begun(tmp_path).values()) <= 14  # what the killed one had, was begun again


def test_a_result_that_its_worker_takes_to_the_grave_is_computed_again(
    dask: DaskProcesses, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dicom_node.cluster.pool.TAKE_S", 1.0)
    first = dask.start_worker()

    def on_result(n: int) -> None:
        if n == 1:
            wait_for("the second task's end", lambda: len(begun(tmp_path)) >= 2)
            time.sleep(1.0)  # its result is known to be there, and not fetched
            first.kill()
            dask.start_worker()

    ran = run_all(dask, steps(tmp_path, 4), on_result=on_result)

    assert ran.names() == [step.name for step in steps(tmp_path, 4)]
    assert len(ran.pids()) == 2


@pytest.mark.slow
def test_a_task_that_kills_its_workers_is_named_and_its_neighbours_are_not(dask: DaskProcesses, tmp_path: Path) -> None:
    for _ in range(4):
        dask.start_worker()
    deadly = Step(tmp_path, "deadly", is_deadly=True)

    ran = run_all(dask, [*steps(tmp_path, 3, seconds=0.2), deadly, *steps(tmp_path, 9, seconds=0.2)[3:]])

    errors = [(index, result) for index, result in ran.results if isinstance(result, BaseException)]
    assert [(index, type(error)) for index, error in errors] == [(3, ClusterWorkerKilledError)]
    assert begun(tmp_path)["deadly"] == 3
    assert len(ran.results) == 10


def test_an_error_of_a_task_is_its_result(dask: DaskProcesses, tmp_path: Path) -> None:
    dask.start_worker()

    ran = run_all(dask, steps(tmp_path, 2), function=fail)

    assert [type(result) for _, result in ran.results] == [ValueError, ValueError]


def test_a_worker_with_other_code_is_refused_by_name_and_the_others_work(dask: DaskProcesses, tmp_path: Path) -> None:
    other = tmp_path / "other"
    for name in ("dicom_node", "inference", "part10", "sr_writer"):
        shutil.copytree(ROOT / name, other / name, ignore=shutil.ignore_patterns("reference", "assets", "__pycache__"))
    (other / "tests").symlink_to(ROOT / "tests")
    shutil.copytree(ROOT / "inference" / "reference", other / "inference" / "reference", symlinks=True)
    with (other / "dicom_node" / "report.py").open("a") as file:
        file.write("# a local change\n")
    dask.start_worker(env={"PYTHONPATH": str(other)})
    good = dask.start_worker()

    ran = run_all(dask, steps(tmp_path, 6, seconds=0.1))

    assert ran.pids() == {good.pid}
    ((worker, why),) = ran.refused
    assert worker.startswith("tcp://127.0.0.1:")
    assert "other code of dicom-node" in why


def test_a_cluster_of_workers_that_do_not_see_the_folder_is_refused(
    dask: DaskProcesses, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dask.start_worker()
    monkeypatch.setattr("dicom_node.cluster.stream.REFUSED_WAIT_S", 0.0)

    with pytest.raises(NoWorkersError, match=r"does not see .*elsewhere, which must be on a file system"):
        run_all(dask, steps(tmp_path, 2), wanted=as_here(visible=[tmp_path / "elsewhere"]))

    assert not (tmp_path / "begun").exists()


def test_nobody_to_work_is_an_error_after_a_while(
    dask: DaskProcesses, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connect, "NOBODY_S", 0.5)

    with pytest.raises(NoWorkersError, match="has no workers"):
        run_all(dask, steps(tmp_path, 2))


@pytest.mark.slow
def test_a_run_goes_on_after_the_scheduler_was_killed_and_started_again(dask: DaskProcesses, tmp_path: Path) -> None:
    dask.start_worker()
    restarted = threading.Event()

    def restart() -> None:
        assert dask.scheduler is not None
        dask.scheduler.send_signal(signal.SIGKILL)
        dask.scheduler.wait()
        dask.start_scheduler()
        dask.start_worker()
        restarted.set()

    def on_result(n: int) -> None:
        if n == 2:
            threading.Thread(target=restart).start()

    ran = run_all(dask, steps(tmp_path, 8, seconds=0.3), on_result=on_result)

    assert restarted.is_set()
    assert ran.names() == [step.name for step in steps(tmp_path, 8)]


@pytest.mark.slow
def test_a_scheduler_that_does_not_come_back_ends_the_run(
    dask: DaskProcesses, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dask.start_worker()
    monkeypatch.setattr(connect, "CONNECT_S", 2.0)
    started = time.monotonic()

    def on_result(n: int) -> None:
        if n == 2 and dask.scheduler is not None:
            dask.scheduler.kill()

    with pytest.raises(ClusterLostError, match="run the same command again"):
        run_all(dask, steps(tmp_path, 8, seconds=0.3), on_result=on_result)

    assert time.monotonic() - started < 60
