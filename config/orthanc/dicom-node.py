"""Python script of an Orthanc: send every series to a DICOM node as soon as it is stable.

python.json names this script and the node. What is not sent yet is kept in Orthanc's database, so that it is sent after
a restart of either side. A series that grows is sent again as a whole; the node counts the same instance once. What
came from the node itself (its SEG and SR) is not sent back.
"""

from __future__ import annotations

import json
import threading

import orthanc

SETTINGS = {
    "Name": "node",
    "AET": "DICOMNODE",
    "Host": "127.0.0.1",
    "Port": 11112,
    "RetrySeconds": 60,
    **json.loads(orthanc.GetConfiguration()).get("DicomNode", {}),
}
MAX_REFUSALS = 5  # of a series by a node that answers
PENDING_PROPERTY = 4410  # of Orthanc's database: the series that are not sent yet; numbers from 1024 are free


class Sender:
    """Sends series one after the other, in a thread of its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._pending: dict[str, int] = {}  # identifier of the series -> number of its latest change
        self._n_changes = 0
        self._n_refusals: dict[str, int] = {}
        self._thread = threading.Thread(target=self._run, name="dicom-node", daemon=True)

    def start(self) -> None:
        """Continue with what was not sent before Orthanc stopped."""
        register_modality()
        for series in json.loads(orthanc.GetGlobalProperty(PENDING_PROPERTY, "[]")):
            self.add(series)
        self._thread.start()

    def stop(self) -> None:
        """End the thread; what is not sent stays in the database."""
        self._stopping.set()
        self._wake.set()
        self._thread.join()

    def add(self, series: str) -> None:
        """Send a series soon."""
        with self._lock:
            self._n_changes += 1
            self._pending[series] = self._n_changes
            self._save()
        self._wake.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
            has_failed = False
            for series, change in sorted(self._pending.copy().items(), key=lambda item: item[1]):
                if self._stopping.is_set():
                    return
                has_failed = not self._send(series)
                with self._lock:
                    if self._pending.get(series) == change:  # it has not grown meanwhile
                        del self._pending[series]
                        if has_failed:  # others are tried before it
                            self._n_changes += 1
                            self._pending[series] = self._n_changes
                        self._save()
                if has_failed:
                    break
            if has_failed:
                self._stopping.wait(SETTINGS["RetrySeconds"])
            else:
                self._wake.wait()

    def _send(self, series: str) -> bool:
        """Send a series if it is there and not the node's own; return False if it is to be sent again."""
        try:
            if not is_there(series) or comes_from_node(series):
                return True
            request = {"Resources": [series], "Synchronous": True}
            orthanc.RestApiPost(f"/modalities/{SETTINGS['Name']}/store", json.dumps(request))
        except orthanc.OrthancException as error:
            if not is_there(series):
                return True
            if node_answers():
                self._n_refusals[series] = self._n_refusals.get(series, 0) + 1
            if self._n_refusals.get(series, 0) >= MAX_REFUSALS:
                orthanc.LogError(
                    f"dicom-node: series {series} was refused {MAX_REFUSALS} times and is left out: {error}"
                )
                del self._n_refusals[series]
                return True
            orthanc.LogWarning(f"dicom-node: series {series} is not sent yet: {error}")
            return False
        self._n_refusals.pop(series, None)
        return True

    def _save(self) -> None:
        orthanc.SetGlobalProperty(PENDING_PROPERTY, json.dumps(list(self._pending)))


def register_modality() -> None:
    """Let Orthanc know the node, unless its configuration has a modality of that name."""
    if SETTINGS["Name"] not in json.loads(orthanc.RestApiGet("/modalities")):
        modality = {key: SETTINGS[key] for key in ("AET", "Host", "Port")}
        orthanc.RestApiPut(f"/modalities/{SETTINGS['Name']}", json.dumps(modality))


def node_answers() -> bool:
    """Return whether the node answers a C-ECHO."""
    try:
        orthanc.RestApiPost(f"/modalities/{SETTINGS['Name']}/echo", "{}")
    except orthanc.OrthancException:
        return False
    return True


def is_there(series: str) -> bool:
    """Return whether Orthanc has a series."""
    try:
        orthanc.RestApiGet(f"/series/{series}")
    except orthanc.OrthancException:
        return False
    return True


def comes_from_node(series: str) -> bool:
    """Return whether the node sent this series."""
    instance = json.loads(orthanc.RestApiGet(f"/series/{series}"))["Instances"][0]
    metadata = json.loads(orthanc.RestApiGet(f"/instances/{instance}/metadata?expand"))
    return metadata.get("RemoteAET", "").strip() == SETTINGS["AET"]


SENDER = Sender()


def on_change(change_type: orthanc.ChangeType, _level: orthanc.ResourceType, resource: str) -> None:
    """Take what Orthanc says about its resources and about itself."""
    if change_type == orthanc.ChangeType.ORTHANC_STARTED:
        SENDER.start()
    elif change_type == orthanc.ChangeType.ORTHANC_STOPPED:
        SENDER.stop()
    elif change_type == orthanc.ChangeType.STABLE_SERIES:
        SENDER.add(resource)


orthanc.RegisterOnChangeCallback(on_change)
