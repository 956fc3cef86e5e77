"""A folder of many mixed series, real and synthetic, through ``segment`` and through a running node.

Every series must end as volumes or with a code, the two ways must agree, and nothing may crash or hang.

    python -m tests.soak.soak --data ../shared/data/dicom
"""

from __future__ import annotations

import argparse
import random
import resource
import sys
import tarfile
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.soak.cases import Case, all_cases
from tests.soak.ways import TROUBLE, Outcome, disagreement, keys_of, through_node, through_segment
from tests.tiny_models import write_tiny_model

BODY_ABOVE = 60.0
GRID_MM = (8.0, 8.0, 8.0)


@dataclass(frozen=True, slots=True)
class Soaked:
    """Both ways' outcomes by series, and what is wrong with them."""

    offline: Mapping[str, Outcome]
    node: Mapping[str, Outcome]
    offline_s: float
    node_s: float
    n_files: int
    problems: tuple[str, ...]

    def lines(self) -> Iterable[str]:
        """The numbers."""
        for name, outcomes, seconds in (("segment", self.offline, self.offline_s), ("node", self.node, self.node_s)):
            n_volumes = sum(outcome.n_volumes for outcome in outcomes.values())
            n_with = sum(outcome.n_volumes > 0 for outcome in outcomes.values())
            yield (
                f"{name}: {len(outcomes)} series ({self.n_files} files) in {seconds:.0f} s; {n_with} gave {n_volumes} "
                f"volumes, {len(outcomes) - n_with} a reason"
            )
            codes = Counter(code for outcome in outcomes.values() for code in outcome.codes)
            yield "  " + ", ".join(f"{code} {number}" for code, number in codes.most_common())
        yield f"largest process: {resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20:.2f} GiB"
        yield f"{len(self.problems)} problems"
        yield from self.problems


def soak(place: Path, cases: Sequence[Case], archives: Sequence[Path], *, quiet_s: float, timeout_s: float) -> Soaked:
    """Write everything below ``place``, take it both ways, and compare."""
    root = place / "in"
    for case in cases:
        folder = root / "synthetic" / case.name
        folder.mkdir(parents=True)
        for number, instance in enumerate(case.instances, start=1):
            (folder / f"{number:04d}.dcm").write_bytes(instance.part10)
    for archive in archives:
        with tarfile.open(archive) as tar:
            tar.extractall(root / "real", filter="data")
    files = [path for path in sorted(root.rglob("*")) if path.is_file()]
    random.Random(4).shuffle(files)  # so that every series comes in pieces, between those of all others
    keys = keys_of(files)
    models = {
        role: write_tiny_model(place / role, role, above=above, spacing_mm=GRID_MM)
        for role, above in (("foreground", BODY_ABOVE), ("anonymized", 10 * BODY_ABOVE))
    }
    began = time.monotonic()
    offline = through_segment(root, keys, models, place / "out", timeout_s=timeout_s)
    offline_s, began = time.monotonic() - began, time.monotonic()
    node, tracebacks = through_node(place / "node", keys, models, quiet_s=quiet_s, timeout_s=timeout_s)
    problems = [*_untold(offline, "segment"), *_untold(node, "the node")]
    problems += [f"the node logs a defect: {traceback}" for traceback in tracebacks]
    problems += [f"{key}: {said}" for key in offline if (said := disagreement(offline[key], node[key]))]
    problems += _unexpected(root, cases, keys, offline)
    return Soaked(offline, node, offline_s, time.monotonic() - began, len(files), tuple(problems))


def _untold(outcomes: Mapping[str, Outcome], way: str) -> Iterable[str]:
    for key, outcome in outcomes.items():
        if not outcome.is_told:
            yield f"{key}: {way} says nothing of it"
        for code in outcome.codes & TROUBLE:
            yield f"{key}: {way} had trouble: {code}"


def _unexpected(
    root: Path, cases: Sequence[Case], keys: Mapping[Path, str], offline: Mapping[str, Outcome]
) -> Iterable[str]:
    for case in cases:
        found = [offline[keys[path]] for path in (root / "synthetic" / case.name).iterdir()]
        n_volumes, codes = found[0].n_volumes, set.union(*(one.codes for one in found))
        if isinstance(case.expected, int):
            is_expected = n_volumes == case.expected
        else:
            is_expected = not n_volumes and any(code.startswith(tuple(case.expected.split("|"))) for code in codes)
        if not is_expected:
            yield f"{case.name}: {n_volumes} volumes, {sorted(codes)}; expected {case.expected}"


def main() -> int:
    """The full run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, help="folder of NAME.tar.xz with real series")
    parser.add_argument("--every", type=int, default=1, help="only every so-manieth synthetic series")
    parser.add_argument("--only", nargs="+", default=[], help="only these synthetic series")
    parser.add_argument("--hours", type=float, default=2.0, help="longest time for either way")
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # what pydicom says of odd values, of which there are many here
    archives = sorted(options.data.glob("*.tar.xz")) if options.data else []
    with tempfile.TemporaryDirectory() as place:
        cases = [case for case in all_cases() if not options.only or case.name in options.only][:: options.every]
        soaked = soak(Path(place), cases, archives, quiet_s=15.0, timeout_s=options.hours * 3600)
    sys.stdout.write("\n".join((*soaked.lines(), "")))
    return 1 if soaked.problems else 0


if __name__ == "__main__":
    sys.exit(main())
