"""Scanners against a running node: schemathesis with the token of each role, sslyze on both ports with TLS, wapiti.

A node of its own runs with access by tokens, a port for DIMSE with TLS, and nginx with the shipped configuration in
front of it. What a scanner finds is a line; the exit code is 1 if there is one.

    python -m tests.scan.scan --tools build/scan            # minutes; needs dcmtk and nginx
    python -m tests.scan.scan --tools build/scan --short    # without wapiti
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import httpx

from dicom_node.access.roles import Role
from dicom_node.access.tokens import create_token
from dicom_node.store import Store
from tests.certificates import Authority
from tests.deploy.test_nginx import NAME, servers
from tests.factories import ct_series
from tests.node_process import RunningNode, start_node
from tests.peer_servers import free_port, start_nginx_servers

LONG_EXAMPLES, SHORT_EXAMPLES = 12, 8
WAPITI_S: Final = 200
FEWEST_PAGES: Final = 10  # of somebody who may see all
# Not: that every request that fits the schema is accepted, because a study that it names may not exist.
CHECKS: Final = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,"
    "response_schema_conformance,negative_data_rejection,ignored_auth,use_after_free"
)
# Not ldap: there is none, and what the module takes for an injection is that a second decision is refused.
WAPITI_MODULES: Final = (
    "cookieflags,crlf,csp,csrf,exec,file,htaccess,http_headers,log4shell,methods,permanentxss,redirect,shellshock,"
    "spring4shell,sql,ssrf,timesql,upload,xss,xxe"
)
# It sends the form once as it was and once with another token, and compares the answers. The right one is refused too,
# for the access token that wapiti made up; tests/deploy/test_nginx.py has both.
KNOWN: Final = re.compile(r"Cross Site Request Forgery: POST /sign-in: CSRF token 'token' is not properly checked")
OLD_VERSIONS: Final = (
    "ssl_2_0_cipher_suites",
    "ssl_3_0_cipher_suites",
    "tls_1_0_cipher_suites",
    "tls_1_1_cipher_suites",
)
NEW_VERSIONS: Final = ("tls_1_2_cipher_suites", "tls_1_3_cipher_suites")
WEAKNESSES: Final = (
    "heartbleed", "openssl_ccs_injection", "tls_compression", "session_renegotiation", "tls_1_3_early_data", "robot",
    "tls_fallback_scsv",
)  # fmt: skip
SUITES: Final = re.compile(r"TLS_(ECDHE_(ECDSA|RSA)_WITH_)?(AES_(128|256)_GCM_SHA(256|384)|CHACHA20_POLY1305_SHA256)")


@dataclass(frozen=True, slots=True)
class Scanned:
    """What one scanner has found.

    Attributes
    ----------
    n_requests
        Test cases of schemathesis, pages that wapiti crawled; None where that is not said.
    """

    tool: str
    against: str
    n_requests: int | None
    seconds: float
    findings: tuple[str, ...]

    def line(self) -> str:
        """A line for people."""
        asked = "" if self.n_requests is None else f", {self.n_requests} requests or pages"
        return f"{self.tool}, {self.against}: {len(self.findings)} findings{asked}, {self.seconds:.0f} s"


@dataclass(frozen=True, slots=True)
class Target:
    """A running node, and who may do what there."""

    node: RunningNode
    tokens: Mapping[str, str]
    authority: Authority
    dimse_tls_port: int
    https_port: int
    folder: Path


def scan(tools: Path, *, is_short: bool, roles: Iterable[str]) -> Iterator[Scanned]:
    """Run all scanners, one after the other."""
    with tempfile.TemporaryDirectory(prefix="scan-") as folder, target(Path(folder)) as found:
        for role in roles:
            yield schemathesis(tools, found, role, is_short=is_short)
        for name, port, server_name in (
            ("DIMSE with TLS", found.dimse_tls_port, "localhost"),
            ("config/nginx/dicom-node.conf", found.https_port, NAME),
        ):
            yield sslyze(tools, name, port, server_name)
        if not is_short:
            yield wapiti(tools, found, "admin")
            yield wapiti(tools, found, None)
        after = httpx.get(f"{found.node.url}/health/ready", trust_env=False, timeout=30)
        if after.status_code != httpx.codes.OK or found.node.process.poll() is not None:
            yield Scanned("health", "after all", None, 0.0, (f"the node answers {after.status_code}",))
        yield Scanned("log", "of the node", None, 0.0, tuple(_defects(found.node.log)))


@contextmanager
def target(folder: Path) -> Iterator[Target]:
    """A node with two series, a token for each role, and nginx in front of it."""
    authority = Authority(folder / "certificates")
    own = authority.issue("node")
    tls_port, https_port, plain_port = free_port(), free_port(), free_port()
    tls = {"port": tls_port, "certificate_file": str(own.certificate), "key_file": str(own.key)}
    settings = {
        # sslyze shows no certificate; the limits of wrong tokens and of requests would hide what is after them
        "dimse": {"tls": tls | {"require_certificate": False}},
        "web": {
            "access": "tokens", "stow": True, "upload": True, "public_url": f"https://{NAME}",
            "proxies": ["127.0.0.1"], "max_requests_per_minute": 10**9,
        },
    }  # fmt: skip
    with start_node(folder / "node", settings) as node:
        with Store.open(node.data_dir) as store:
            tokens = {}
            for role in Role:
                text, _ = create_token(store, f"the {role}", role, days=1, created_by="scan", now=datetime.now(UTC))
                tokens[role.value] = text
        for seed in ("one", "two"):
            for instance in ct_series(n_slices=3, rows=16, columns=16, seed=seed):
                _store(node, tokens["sender"], instance.part10)
        text = servers(
            authority, node_port=int(node.url.rpartition(":")[2]), tls_port=https_port, plain_port=plain_port
        )
        nginx = folder / "nginx"
        nginx.mkdir()
        with start_nginx_servers(nginx, text, port=https_port):
            yield Target(node, tokens, authority, tls_port, https_port, folder)


def schemathesis(tools: Path, found: Target, role: str, *, is_short: bool) -> Scanned:
    """The JSON API, as its own description has it, with the token of a role."""
    schema = found.folder / "openapi.json"
    described = httpx.get(f"{found.node.url}/api/openapi.json", headers=_bearer(found, "admin"), trust_env=False)
    document = described.json()
    document["servers"] = [{"url": found.node.url}]
    schema.write_text(json.dumps(document))
    max_examples = SHORT_EXAMPLES if is_short else LONG_EXAMPLES
    began = time.monotonic()
    run = _run(
        tools / "st/bin/schemathesis", "run", schema, "--url", found.node.url, "--checks", CHECKS,
        "-H", f"Authorization: Bearer {found.tokens[role]}", "--max-examples", max_examples, "--seed", 1,
        *(("--phases", "examples,fuzzing") if is_short else ()), "--suppress-health-check", "all", "--no-color",
        "--exclude-path", "/api/upload",  # no bodies can be made of its description; tests/page/test_api.py tries it
        folder=found.folder,
    )  # fmt: skip
    text = run.stdout + run.stderr
    tested = re.search(r"Test cases:\s*\n?\s*(\d+)|(\d+) generated", text)
    findings = tuple(f"{role}: {failure}" for failure in _failures(text))
    if run.returncode and not findings:
        findings = (f"{role}: schemathesis ended with {run.returncode}: {text[-2000:]}",)
    number = None if tested is None else int(tested[1] or tested[2])
    return Scanned("schemathesis", f"/api as {role}", number, time.monotonic() - began, findings)


def _failures(text: str) -> list[str]:
    """Return what schemathesis says of each operation, with a command that shows it."""
    found: dict[str, None] = {}
    for operation, said in re.findall(r"^_{3,} (.+?) _{3,}$(.*?)(?=^_{3,} |^={3,} )", text, re.MULTILINE | re.DOTALL):
        command = re.search(r"^\s+(curl .+)$", said, re.MULTILINE)
        shown = "" if command is None else ": " + re.sub(r"-H 'Authorization[^']*' ", "", command[1])
        for failure in re.findall(r"^- (.+)$", said, re.MULTILINE):
            found.setdefault(f"{operation}: {failure}{shown}")
    return list(found)


def sslyze(tools: Path, name: str, port: int, server_name: str) -> Scanned:
    """Versions, cipher suites, and known weaknesses of TLS on a port."""
    began = time.monotonic()
    with tempfile.NamedTemporaryFile(suffix=".json") as report:
        _run(
            tools / "st/bin/sslyze", f"127.0.0.1:{port}", "--sni", server_name, "--json_out", report.name, "--quiet",
            "--mozilla_config", "disable", "--sslv2", "--sslv3", "--tlsv1", "--tlsv1_1", "--tlsv1_2", "--tlsv1_3",
            "--heartbleed", "--openssl_ccs", "--compression", "--reneg", "--early_data", "--robot", "--fallback",
        )  # fmt: skip
        (result,) = json.loads(Path(report.name).read_text())["server_scan_results"]
    findings = tuple(f"{name}: {finding}" for finding in _tls_findings(result))
    return Scanned("sslyze", name, None, time.monotonic() - began, findings)


def _tls_findings(result: Mapping[str, Any]) -> Iterator[str]:
    if result["scan_status"] != "COMPLETED":
        yield f"not scanned: {result['connectivity_error_trace']}"
        return
    scans = {name: scan["result"] for name, scan in result["scan_result"].items() if scan["result"] is not None}
    missing = sorted({*OLD_VERSIONS, *NEW_VERSIONS, *WEAKNESSES} - scans.keys())
    if missing:
        yield f"not scanned: {', '.join(missing)}; {[scan['status'] for scan in result['scan_result'].values()]}"
        return
    for version in OLD_VERSIONS:
        if scans[version]["accepted_cipher_suites"]:
            yield f"{version} are accepted"
    n_suites = 0
    for version in NEW_VERSIONS:
        for suite in scans[version]["accepted_cipher_suites"]:
            n_suites += 1
            if not SUITES.fullmatch(suite["cipher_suite"]["name"]):
                yield f"cipher suite {suite['cipher_suite']['name']} is accepted"
    if not n_suites:
        yield "no cipher suite was found, so nothing was scanned"
    if scans["heartbleed"]["is_vulnerable_to_heartbleed"]:
        yield "Heartbleed"
    if scans["openssl_ccs_injection"]["is_vulnerable_to_ccs_injection"]:
        yield "CCS injection"
    if scans["tls_compression"]["supports_compression"]:
        yield "compression (CRIME)"
    if scans["session_renegotiation"]["is_vulnerable_to_client_renegotiation_dos"]:
        yield "renegotiation by the client"
    if scans["tls_1_3_early_data"]["supports_early_data"]:
        yield "early data, which can be sent twice"
    if scans["robot"]["robot_result"].startswith("VULNERABLE"):
        yield "ROBOT"
    if not scans["tls_fallback_scsv"]["supports_fallback_scsv"]:
        yield "no TLS_FALLBACK_SCSV"


def wapiti(tools: Path, found: Target, role: str | None) -> Scanned:
    """The page after nginx, crawled and attacked, with the token of a role or as nobody."""
    began = time.monotonic()
    report = found.folder / f"wapiti-{role}.json"
    who = [] if role is None else ["-H", f"Authorization: Bearer {found.tokens[role]}"]
    root = f"https://127.0.0.1:{found.https_port}"  # without TLS it would not send the cookies back, and no form counts
    run = _run(
        tools / "wapiti/bin/wapiti", "-u", f"{root}/", "-s", f"{root}/sign-in", "--scope", "domain",
        "-x", f"{root}/sign-out", "--verify-ssl", 0, "-m", WAPITI_MODULES,
        "--max-scan-time", WAPITI_S, "--max-attack-time", 30,
        "-d", 6, "--max-files-per-dir", 40, "--no-bugreport", "--flush-session", "-f", "json", "-o", report, *who,
        "--store-session", found.folder / "wapiti-session", "--store-config", found.folder / "wapiti-config",
        folder=found.folder,
    )  # fmt: skip
    name = "the page as nobody" if role is None else f"the page as {role}"
    if not report.exists():
        text = (run.stdout + run.stderr)[-2000:]
        return Scanned("wapiti", name, None, time.monotonic() - began, (f"wapiti ended with {run.returncode}: {text}",))
    told = json.loads(report.read_text())
    findings = tuple(
        f"{name}: {kind}: {one['method']} {one['path']}: {one['info']}"
        for section in ("vulnerabilities", "anomalies")
        for kind, ones in told[section].items()
        for one in ones
    )
    findings = tuple(finding for finding in findings if not KNOWN.search(finding))
    n_pages = told["infos"]["crawled_pages_nbr"]
    if n_pages < (FEWEST_PAGES if role is not None else 1):
        findings += (f"{name}: only {n_pages} pages were found, so not much was scanned",)
    return Scanned("wapiti", name, n_pages, time.monotonic() - began, findings)


def _defects(log: Path) -> Iterator[str]:
    """Lines of the node's log on errors of ours."""
    for line in log.read_text().splitlines():
        if re.match(r"Traceback |\S+ (error|critical) ", line):
            yield line[:300]


def _store(node: RunningNode, token: str, part10: bytes) -> None:
    body = b"--b\r\nContent-Type: application/dicom\r\n\r\n" + part10 + b"\r\n--b--\r\n"
    kind = 'multipart/related; type="application/dicom"; boundary=b'
    headers = {"Authorization": f"Bearer {token}", "Content-Type": kind}
    answer = httpx.post(f"{node.url}/dicom-web/studies", content=body, headers=headers, trust_env=False, timeout=60)
    answer.raise_for_status()


def _bearer(found: Target, role: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {found.tokens[role]}"}


def _run(program: Path, *arguments: object, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(program.absolute()), *map(str, arguments)],
        capture_output=True, text=True, errors="replace", check=False, cwd=folder, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """Print what is found; 1 if that is anything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tools", type=Path, required=True, help="folder with the environments st and wapiti")
    parser.add_argument("--short", action="store_true", help="few requests, two roles, no wapiti")
    chosen = parser.parse_args(arguments)
    roles = ("viewer", "admin") if chosen.short else tuple(role.value for role in Role)
    n_findings = 0
    for scanned in scan(chosen.tools, is_short=chosen.short, roles=roles):
        sys.stdout.write("\n  ".join((scanned.line(), *scanned.findings)) + "\n")
        sys.stdout.flush()
        n_findings += len(scanned.findings)
    sys.stdout.write(f"{n_findings} findings\n")
    return 1 if n_findings else 0


if __name__ == "__main__":
    sys.exit(main())
