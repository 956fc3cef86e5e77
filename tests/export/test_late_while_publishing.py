"""A study that is published never has outdated evidence, whenever a late instance comes."""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from dicom_node.export import targets
from dicom_node.export.cleaner import Cleaner
from dicom_node.export.copying import write_copy
from dicom_node.export.profile import read_profile
from dicom_node.export.staging import Staged
from dicom_node.export.targets import FolderTarget
from dicom_node.store import DecisionRow, NewExport, Skip, Store, StudyRow, StudyState
from tests.gate.cases import NAMES, at, copy_of_template, image, judge, seen
from tests.store.sending import STUDY, closing, keep

N_TRIES = int(os.environ.get("DICOM_NODE_TRIES", "25"))  # the long form: 100


def test_a_late_instance_is_before_the_comparison_or_after_the_publishing(
    template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(4)
    publish = targets.publish
    data_dir = copy_of_template(template, tmp_path / "node")
    with Store.open(data_dir) as store, Store.open(data_dir) as receiver:
        seen(store, "defaced")
        (row, *_) = store.series.instances("1.2.3.4")
        cleaner = Cleaner(read_profile(None), NAMES)
        found: Counter[str] = Counter()

        def watched(expected: str) -> Callable[[Path, Path], None]:
            def publish_and_look(staged: Path, target: Path) -> None:
                assert receiver.studies.evidence(STUDY).fingerprint == expected  # asked while the lock is held
                publish(staged, target)
                time.sleep(0.002)
                assert receiver.studies.evidence(STUDY).fingerprint == expected

            return publish_and_look

        for number in range(N_TRIES):
            fingerprint = store.studies.evidence(STUDY).fingerprint
            folder = tmp_path / "staging" / str(number)
            with store.objects.open(row.digest) as file:
                staged = Staged(folder, (write_copy(file, folder, cleaner),))
            monkeypatch.setattr(targets, "publish", watched(fingerprint))
            late = threading.Thread(target=_send_late, args=(receiver, number, chance.uniform(0, 0.03)))
            target = FolderTarget(store, tmp_path / "out", lambda: at(300))
            if number == 0:  # surely before the comparison, whatever the machine's speed
                late.run()
                outcome = _publish(target, staged, fingerprint)
                assert outcome == "changed-meanwhile"
            elif number == 1:  # surely after the publishing
                outcome = _publish(target, staged, fingerprint)
                late.run()
                assert outcome == "exported"
            else:
                late.start()
                outcome = _publish(target, staged, fingerprint)
                late.join()
            found[outcome] += 1
            store.closing.complete(
                store.series.get(f"1.2.3.9{number}"), closing(Skip("rule-scout: few slices")), at(400)
            )
            assert judge(store).study.state is StudyState.CLEARED
    assert sum(found.values()) == N_TRIES
    assert set(found) == {"exported", "changed-meanwhile"}, found


def _send_late(receiver: Store, number: int, wait_s: float) -> None:
    time.sleep(wait_s)
    keep(receiver, image(1, series=f"1.2.3.9{number}"))


def _publish(target: FolderTarget, staged: Staged, fingerprint: str) -> str:
    def may_leave(study: StudyRow, known: str, _: DecisionRow | None) -> bool:
        return known == fingerprint and study.state is StudyState.CLEARED

    new = NewExport(STUDY, "2.25.1", "HEADS", "k" * 32, target.name, fingerprint, "g" * 64, staged.content_digest, 1)
    return target.publish(staged, new, may_leave).outcome
