"""Ask the node and Orthanc the same DICOMweb requests, and write what both answered next to what PS3.18 asks for.

    python -m benchmarks.dicomweb_table > docs/dicomweb-compatibility.md

Ends with 1 if an answer of the node is not the expected one.
"""

from __future__ import annotations

import logging
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import httpx

from benchmarks.dicomweb_cases import Case, Instances, cases, store_body
from dicom_node.store import Store
from tests.dicomweb.serving import serve
from tests.peer_servers import start_orthanc

TIMEOUT_S = 60
HEAD = """# DICOMweb, request by request

Written by `make dicomweb-table`, which stores the same {n_instances} instances in the node and in Orthanc {version}
with its DICOMweb plugin, and asks both the same {n_cases} requests. *PS3.18* is the answer that the standard asks for,
by our reading; what differs from it is **bold**. Some of it is optional: a server may say that it does not have a
resource, a media type or a transfer syntax. The node answered {n_node} as expected, Orthanc {n_orthanc}. More of the
node is in [conformance.md](conformance.md).
"""


def table(held: Instances, node: Mapping[Case, str], orthanc: Mapping[Case, str], version: str) -> Iterator[str]:
    """Yield the lines of the page."""
    yield HEAD.format(
        n_instances=len(list(held)),
        version=version,
        n_cases=len(node),
        n_node=sum(found == case.expected for case, found in node.items()),
        n_orthanc=sum(found == case.expected for case, found in orthanc.items()),
    )
    section = ""
    for case in node:
        if case.section != section:
            section = case.section
            yield f"{chr(10) if section != 'QIDO-RS' else ''}## {section}\n"
            yield "| request | PS3.18 | node | Orthanc |\n| --- | --- | --- | --- |"
        answers = [found if found == case.expected else f"**{found}**" for found in (node[case], orthanc[case])]
        yield f"| {case.name} | {case.expected} | {answers[0]} | {answers[1]} |"


def ask(root: str, held: Instances, asked: Sequence[Case]) -> dict[Case, str]:
    """Store all instances in an archive, run all requests, and return what it answered."""
    with httpx.Client(base_url=root, trust_env=False, timeout=TIMEOUT_S) as client:
        headers, body = store_body([one.part10 for one in held])
        client.post("/studies", headers=headers, content=body).raise_for_status()
        return {case: _answer(case, client) for case in asked}


def _answer(case: Case, client: httpx.Client) -> str:
    try:
        return case.run(client)
    except (httpx.HTTPError, ValueError) as error:
        return type(error).__name__


def ask_node(folder: Path, held: Instances, asked: Sequence[Case]) -> dict[Case, str]:
    """Run all requests against a node."""
    with Store.open(folder) as store, serve(store, stow=True) as url:
        return ask(f"{url}/dicom-web", held, asked)


def main() -> int:
    """Write the page; return 1 if the node answered something else than expected."""
    logging.disable(logging.ERROR)
    held = Instances()
    asked = cases(held)
    with ExitStack() as opened:
        folder = Path(opened.enter_context(tempfile.TemporaryDirectory()))
        node = ask_node(folder / "node", held, asked)
        settings = {"DicomWeb": {"EnableWado": True, "WadoRoot": "/wado"}, "StableAge": 1}
        orthanc = opened.enter_context(start_orthanc(folder / "orthanc", settings=settings))
        found = ask(orthanc.dicomweb_url, held, asked)
        version = httpx.get(f"{orthanc.url}/system", trust_env=False, timeout=TIMEOUT_S).json()["Version"]
    sys.stdout.write("\n".join(table(held, node, found, version)) + "\n")
    wrong = [
        f"{case.section}, {case.name}: {answer}, expected {case.expected}"
        for case, answer in node.items()
        if answer != case.expected
    ]
    sys.stderr.write("".join(f"{line}\n" for line in wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
