"""A report as text for people, from the JSON that the node keeps and ``segment`` writes as ``report.json``.

The command line and the web pages show this text. It imports no network, so that both start quickly.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

VERDICT_WORDS: Final[Mapping[str, str]] = {
    "defaced": "the anonymised area covers the face",
    "face_present": "a face is present",
    "indeterminate": "indeterminate, a person must look",
    "not_applicable": "no face in the field of view",
}
_LABELS: Final = {"foreground": "foreground", "anonymized": "anonymised area"}
_KINDS: Final = {
    "1.2.840.10008.5.1.4.1.1.66.4": "SEG",
    "1.2.840.10008.5.1.4.1.1.88.33": "SR",
}


def report_text(report: Mapping[str, Any]) -> str:
    """Return the report of one volume as lines of text, ending with a newline; parts that it lacks are left out.

    Reports of earlier versions of the node lack some parts.
    """
    lines = list(_lines(report))
    width = max((len(label) for label, _ in lines), default=0) + 1
    text = [_title(report)]
    text += [f"  {(label + ':') if label else '':<{width}} {_printable(words)}" for label, words in lines]
    return "\n".join(text) + "\n"


def _title(report: Mapping[str, Any]) -> str:
    name = report.get("series_instance_uid") or report.get("name") or "volume"
    stack = f"stack {report.get('stack_number', 1)} of {report.get('n_stacks', 1)}"
    if report.get("stack_name"):
        stack += f" ({report['stack_name']})"
    return _printable(f"{name}, {report.get('modality') or 'unknown modality'}, {stack}")


def _lines(report: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield labels and what they say; a line that continues the one before has no label."""
    if "verdict" in report:
        words = VERDICT_WORDS.get(report["verdict"], "")
        probability = report.get("probability")
        sure = "" if probability is None else f", probability {probability:.2f}"
        yield "verdict", f"{report['verdict']} ({words}){sure}" if words else f"{report['verdict']}{sure}"
    yield from _each("because", report.get("reasons", ()))
    for segment in report.get("segments", ()):
        yield _LABELS.get(segment["role"], segment["role"]), _found(segment, report)
    if "shape" in report:
        size = " x ".join(str(number) for number in report["shape"])
        spacing = " x ".join(f"{step:g}" for step in report.get("spacing_mm", ()))
        yield "volume", f"{size} voxels of {spacing} mm, from {report.get('n_frames', '?')} frames"
    if report.get("complete_because"):
        yield "complete", report["complete_because"]
    yield from _each("remarks", [f"{remark['code']}: {remark['text']}" for remark in report.get("remarks", ())])
    yield from _each(
        "models",
        [f"{one['role']}: {one['name']} {one['version']}, {one['sha256'][:16]}" for one in report.get("models", ())],
    )
    yield from _each(
        "objects",
        [
            f"{_KINDS.get(one['sop_class_uid'], one['sop_class_uid'])} {one['sop_instance_uid']}"
            for one in report.get("objects", ())
        ],
    )
    if "pipeline_digest" in report:
        version = f", dicom-node {report['node_version']}" if report.get("node_version") else ""
        yield "pipeline", f"{report['pipeline_digest'][:16]}{version}, generation {report.get('generation', 1)}"


def _found(segment: Mapping[str, Any], report: Mapping[str, Any]) -> str:
    if not segment.get("is_found"):
        return "nothing found"
    words = f"{segment['volume_ml']:.1f} mL"
    whole_ml = report.get("foreground_ml") or 0.0
    if segment["role"] == "anonymized" and whole_ml:
        words += f", {100.0 * segment['volume_ml'] / whole_ml:.1f} % of the foreground"
    if segment.get("segment_number") is not None:
        words += f", segment {segment['segment_number']}"
    return f"{words}, by {segment['decided_by']}" if segment.get("decided_by") else words


def _each(label: str, sentences: object) -> Iterator[tuple[str, str]]:
    for sentence in sentences if isinstance(sentences, list | tuple) else ():
        yield label, str(sentence)
        label = ""


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)
