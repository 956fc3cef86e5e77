"""Drive the targets by coverage for a while: ``python -m tests.fuzz.run --seconds 300``.

What is found is kept in ``tests/fuzz/corpus/TARGET``, where the tests replay it. Needs atheris (Linux, x86-64).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

CORPUS = Path(__file__).parent / "corpus"
SLOWEST_S, MOST_MEMORY_MB, LONGEST_BYTES = 20, 2048, 20_000
INSTRUMENTED = ["inference.series", "part10", "dicom_node.upper_layer", "dicom_node.dimse"]


def fuzz(name: str, arguments: list[str]) -> None:
    """Hand this process over to atheris."""
    import atheris  # type: ignore[import-not-found,unused-ignore]

    with atheris.instrument_imports(include=INSTRUMENTED):
        from tests.fuzz.targets import TARGETS
    atheris.Setup([sys.argv[0], *arguments], TARGETS[name])
    atheris.Fuzz()


def run_target(name: str, seconds: int) -> bool:
    """Fuzz one target in a process of its own; whether it held."""
    from tests.fuzz.targets import seeds

    kept = CORPUS / name
    kept.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as work:
        for number, seed in enumerate(seeds(name)):
            (Path(work) / f"seed-{number}").write_bytes(seed)
        limits = [f"-max_total_time={seconds}", f"-timeout={SLOWEST_S}", f"-rss_limit_mb={MOST_MEMORY_MB}"]
        limits += [f"-max_len={LONGEST_BYTES}", f"-artifact_prefix={kept}/", "-print_final_stats=1", "-verbosity=0"]
        command = [sys.executable, "-m", "tests.fuzz.run", "--only", name, "--atheris", *limits, work, str(kept)]
        finished = subprocess.run(command, capture_output=True, text=True, check=False)
    told = dict(line.split(":", 1) for line in finished.stderr.splitlines() if line.startswith("stat::number"))
    print(f"{name}: {told.get('stat', '').split(':')[-1].strip() or '?'} inputs, exit code {finished.returncode}")
    if finished.returncode:
        print(finished.stdout[-4000:], finished.stderr[-600:], file=sys.stderr)
    return finished.returncode == 0


def main() -> int:
    """Share the time out among the targets."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=int, default=300, help="for all targets together")
    parser.add_argument("--only", help="one target")
    parser.add_argument("--atheris", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.atheris is not None:
        fuzz(options.only, options.atheris)
        return 0
    from tests.fuzz.targets import TARGETS

    names = [options.only] if options.only else list(TARGETS)
    held = [run_target(name, max(1, options.seconds // len(names))) for name in names]
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
