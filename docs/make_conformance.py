"""Write docs/conformance.md from the code: what is received, run, divided, refused, remarked and written.

Run by ``make reference``. For who looks after a PACS; every code that a report or a list of jobs may show is here.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from pydicom import Dataset
from pydicom.uid import UID

import dicom_node
import inference
from dicom_node.dicomweb.encoding import ENCODERS
from dicom_node.dicomweb.include_fields import MAX_ENRICHED
from dicom_node.dicomweb.rendering.parameters import DEFAULT_QUALITY, FUNCTIONS, MAX_VIEWPORT_PIXELS
from dicom_node.dicomweb.rendering.picture import FORMATS
from dicom_node.dicomweb.rendering.service import MAX_PICTURES
from dicom_node.dicomweb.storing.json_documents import COMPRESSED
from dicom_node.dimse import status
from dicom_node.dimse.association import ARTIM_TIMEOUT_S
from dicom_node.dimse.contexts import TRANSFER_SYNTAXES
from dicom_node.dimse.query import status as query_status
from dicom_node.dimse.query.models import QUERY_MODELS
from dicom_node.dimse.query.policy import PERFORMED
from dicom_node.gate import severity
from dicom_node.gate.decisions import GateState
from dicom_node.http_intake import reasons
from dicom_node.offline.survey import NOT_MEANT_CODES
from dicom_node.pipeline.rules import Action, load_rules
from dicom_node.settings import CommitmentSettings, QueryRetrieveSettings
from dicom_node.store.index.gate_state import PRIVATE_CREATOR, PRIVATE_CREATOR_TAG, STATE_TAG, VERDICTS_TAG
from dicom_node.store.index.patients import PATIENT_KEYWORDS
from dicom_node.store.index.search import SEARCHABLE
from dicom_node.upper_layer.commitment import STORAGE_COMMITMENT, ReportStatus
from dicom_node.upper_layer.sop_classes import STORAGE_SOP_CLASSES
from dicom_node.upper_layer.tls.contexts import PROFILE, REGISTERED_PORT, TLS_1_2_SUITES, TLS_1_3_SUITES
from inference.input_checks import LARGEST_VIEW_MM, LARGEST_WIDTH_MM, SMALLEST_VIEW_MM
from inference.series import (
    divide,
    errors,
    geometry,
    limits,
    nifti_header,
    nifti_space,
    objects,
    odd_planes,
    planes,
    slice_grid,
    stacks,
)
from inference.series.contrast import TRAITS
from inference.series.encoded import PixelData
from inference.series.files import PathSource
from inference.series.instances import Instance
from inference.series.pixels import check_pixel_data
from inference.series.rejected import FILE_CODES
from inference.series.remarks import RemarkCode
from inference.series.stack_choice import DEFAULT_POLICY, StackChoice
from part10.limits import MAX_SEQUENCE_DEPTH
from sr_writer.codes import (
    COMMENT,
    FACE_VERDICT,
    FOR_RESEARCH_COLLECTION_EXPORT,
    SEGMENT_TERMS,
    SHARE_OF_BODY,
    VERDICT_PROBABILITY,
    VERDICTS,
    VOLUME,
)
from sr_writer.objects import MANUFACTURER, MANUFACTURER_MODEL_NAME
from sr_writer.report import REPORT_SERIES_NUMBER_OFFSET
from sr_writer.segmentation import SERIES_NUMBER_OFFSET

ROOT = Path(__file__).resolve().parents[1]
CONFORMANCE = ROOT / "docs" / "conformance.md"
SHOWN_UID = "1.2.3"
# Facts that stand for any others, in the order that each error takes them behind the Series Instance UID.
EXAMPLES: Mapping[str, tuple[object, ...]] = {
    "no-images": (),
    "mixed-series": ("4.5.6",),
    "conflicting-instance": ("7.8.9",),
    "too-few-slices": (2, limits.MIN_SLICES),
    "slice-gap": (16, 60.0, 3.0),
    "spacing-not-uniform": (16, 30.0, 0.1),
    "gantry-tilt": (60.0, geometry.MAX_TILT_DEG),
    "slices-not-aligned": (16, 140.0),
    "duplicate-positions": (40, 20, "7.8.9", "7.8.10"),
    "concatenation-incomplete": ("4.5.6", 2, 3),
    "multiple-time-points": (40, limits.MAX_STACKS),
    "mixed-orientations": (3,),
    "mixed-sizes": ("256 x 256, 512 x 512",),
    "mixed-frames-of-reference": (2,),
    "mixed-photometric-interpretations": (4, 40),
    "rescale-differs": (16, "1 and -1024", "1 and 0"),
    "series-too-large": ("voxels", 2 * limits.MAX_VOXELS, limits.MAX_VOXELS),
    "field-of-view": ("10.2 x 11.4 x 8.9", "0.12 x 0.12 x 0.12", 30.0, 3000.0, 1500.0),
    "nifti-unreadable": ("vox_offset is 100 and the voxels (...) ..., or damaged, or another format; copy it again",),
    "nifti-dimensions": ("64 x 64 x 40 x 1 x 3 voxels, several values in each, expected one volume; extract one",),
    "nifti-affine": ("the sform has voxels of 0 x 3 x 3, expected sizes above 0; correct the header",),
    "nifti-units": ("xyzt_units has code 1 (metres), which makes voxels of 3000 x 3000 x 3000 mm; set the code to 2",),
    "nifti-data-type": ("voxels of type RGB24 (colour) (datatype 128), expected integers or floats; convert it",),
    "nifti-too-large": (f"2048 x 2048 x 512 voxels, expected at most {limits.MAX_VOXELS} in a volume; crop it",),
}
# Newer than the installed pydicom.
NEWER: Mapping[str, str] = {
    "1.2.840.10008.5.1.4.1.1.66.7": "Label Map Segmentation",
    "1.2.840.10008.5.1.4.1.1.66.8": "Height Map Segmentation",
    "1.2.840.10008.1.2.4.110": "JPEG XL Lossless",
    "1.2.840.10008.1.2.4.111": "JPEG XL JPEG Recompression",
    "1.2.840.10008.1.2.4.112": "JPEG XL",
    "1.2.840.10008.5.1.4.1.1.9.100.1": "Waveform Presentation State",
    "1.2.840.10008.5.1.4.1.1.9.100.2": "Waveform Acquisition Presentation State",
}
REPORT_ANSWERS: Mapping[ReportStatus, str] = {
    ReportStatus.SUCCESS: "recorded",
    ReportStatus.PROCESSING_FAILURE: "the calling AE title is of no peer, another AE title than the node's was called, "
    "or the index is not available now",
    ReportStatus.NO_SUCH_INSTANCE: "no request with this Transaction UID was sent to this peer",
    ReportStatus.NO_SUCH_EVENT_TYPE: "the event type is neither 1 nor 2",
    ReportStatus.INVALID_ARGUMENT: "event information is missing, damaged, too long, or without a Transaction UID",
    ReportStatus.NO_SUCH_CLASS: "a report on anything else",
}
CHOICES: Mapping[StackChoice, str] = {
    StackChoice.ALL: f"every stack, up to {limits.MAX_STACKS}",
    StackChoice.FIRST: "the first one only",
    StackChoice.FIRST_OF_REPEATS: "of stacks that differ in repetition only (time, heart phase, direction), the first",
    StackChoice.MAGNITUDE: "no phase, real and imaginary images where there are others",
    StackChoice.LARGEST: "the one with the most voxels",
    StackChoice.LOWEST_B_VALUE: "those of the lowest b-value",
    StackChoice.FIRST_ECHO: "those of the shortest echo time",
}


def conformance() -> str:
    """The whole page."""
    sections = (
        _head(), _received(), _transfer_syntaxes(), _secured(), _commitment(), _queried(), _run(), _stacks(),
        _geometry(), _nifti(), _refusals(), _remarks(), _written(), _searched(), _retrieved(), _shown(),
    )  # fmt: skip
    return "\n\n".join("\n".join(section) for section in sections) + "\n"


def _head() -> Iterator[str]:
    yield "# What the node does with what a PACS sends\n"
    yield "Written by `make reference` from the code. [operate.md](operate.md) says what to type,"
    yield "[agreements.md](agreements.md) how volumes agree with other readers, [reference.md](reference.md) lists"
    yield "all other error codes.\n"
    yield "In short: everything that DICOM calls a storage SOP class is received and kept, byte for byte. Of that,"
    yield "CT and MR images become volumes; a series becomes one or more, or it has a code and a sentence that say"
    yield "why not. Nothing is resampled, reordered or left out without a remark in the report."


def _received() -> Iterator[str]:
    yield "## What is received\n"
    yield f"C-ECHO, and C-STORE of {len(STORAGE_SOP_CLASSES)} storage SOP classes (all of the standard, retired ones"
    yield f"too) in {len(TRANSFER_SYNTAXES)} transfer syntaxes. Of several proposed, the first of the standard is"
    yield "accepted, so that a PACS need not transcode. Private and future SOP classes and transfer syntaxes are"
    yield "accepted as well (`dimse.accept_unknown_uids`): their bytes are kept and never decoded. What the standard"
    yield "defines for something else (worklist, print, ...) is answered with *abstract syntax not supported*."
    yield "Answers to C-STORE:\n"
    yield from _table(("status", "kind", "when", "what the sender may do"), _status_rows(status))
    yield "\nThe same comes in by STOW-RS where `web.stow` is on: `POST /dicom-web/studies` or `/studies/{study}` with"
    yield '`multipart/related; type="application/dicom"`, with `type="application/dicom+json"` and bulk data in parts'
    yield "of their own (native as `application/octet-stream`, frames as"
    yield f"{', '.join(f'`{kind}`' for kind in COMPRESSED)};"
    yield "several parts with one Content-Location are the frames of one value), or with one `application/dicom` file"
    yield "as the whole body. The answer is DICOM JSON with Referenced SOP Sequence, Failed SOP Sequence, and Other"
    yield "Failures Sequence for parts that are no instance; Error Comment names the part. 200 means all, 202 some or"
    yield "with a warning, 409 none, 503 none for want of space. Reasons:\n"
    yield from _table(("reason", "kind", "when", "what the sender may do"), _status_rows(reasons))


def _status_rows(module: ModuleType) -> Iterator[Sequence[str]]:
    """Rows of the table in the docstring of a module that answers."""
    lines = (module.__doc__ or "").splitlines()
    rulers = [index for index, line in enumerate(lines) if line.startswith("===")]
    begins = [match.start() for match in re.finditer("=+", lines[rulers[0]])]
    rows: list[list[str]] = []
    for line in lines[rulers[1] + 1 : rulers[2]]:
        cells = [line[begin:end].strip() for begin, end in zip(begins, [*begins[1:], None], strict=True)]
        if cells[0]:
            rows.append(cells)
        else:
            rows[-1] = [f"{before} {after}".strip() for before, after in zip(rows[-1], cells, strict=True)]
    yield from rows


def _transfer_syntaxes() -> Iterator[str]:
    yield "## Transfer syntaxes\n"
    yield "*Read* means that pixels in it become volumes. What is received is given out over DICOMweb as it is"
    yield "stored, or, to clients that ask for it (not from big endian), in Explicit VR Little Endian or encoded"
    yield f"without loss in {', '.join(f'{uid.name} (`{uid}`)' for uid in ENCODERS)}."
    yield "Not encoded are JPEG Lossless SV1 (`.70`: the encoder at hand has another predictor), whatever has loss (an"
    yield "instance with other pixels would need another UID; `/rendered` has JPEG), and values beyond Bits Stored,"
    yield "except in RLE: 406. Results are written and sent in Explicit VR Little Endian.\n"
    uids = sorted((UID(uid) for uid in TRANSFER_SYNTAXES), key=lambda uid: [int(part) for part in uid.split(".")])
    is_read = {uid: _refusal_of_encoding(uid) is None for uid in uids}
    yield from _table(("received and read", "UID"), ((uid.name, f"`{uid}`") for uid in uids if is_read[uid]))
    (code,) = {_refusal_of_encoding(uid) for uid in uids} - {None}
    yield f"\nReceived and kept, but not read (`{code}`):\n"
    yield from _table(
        ("received, not read", "UID"), ((NEWER.get(uid, uid.name), f"`{uid}`") for uid in uids if not is_read[uid])
    )


def _refusal_of_encoding(uid: UID) -> str | None:
    """Code with which the reader refuses pixel data in this encoding."""
    pixel_format = planes.PixelFormat(1, 1, 1, 16, 16, is_signed=False)
    pixel_data = PixelData(PathSource(Path()), 0x7FE00010, 0, 2, is_encapsulated=False, held=b"\0\0")
    try:
        check_pixel_data(Instance("", Dataset(), uid, pixel_data), pixel_format)
    except errors.UnsuitableObjectError as error:
        return error.code
    return None


def _secured() -> Iterator[str]:
    yield "## TLS\n"
    yield f"As acceptor (`dimse.tls.port`, {REGISTERED_PORT} is the registered port) and as requestor (`tls` of a"
    yield f"peer), by the *{PROFILE}* (PS3.15 B.12)."
    yield "TLS 1.1 and older are never negotiated, whatever the other side offers.\n"
    suites = {"TLS 1.3, preferred": TLS_1_3_SUITES, "TLS 1.2": tuple(TLS_1_2_SUITES.values())}
    yield from _table(
        ("version", "cipher suites"),
        ((version, ", ".join(f"`{name}`" for name in names)) for version, names in suites.items()),
    )
    yield "\nX.509 certificates, RSA (2048 bits or more) or ECDSA. Requestors must show one unless"
    yield "`dimse.tls.require_certificate` is off; those of peers are checked, with their host name. No revocation"
    yield "lists, no session resumption, no renegotiation. A handshake that is not complete after"
    yield f"{ARTIM_TIMEOUT_S:g} s ends; what is not TLS is closed without an answer. How to use it: [tls.md](tls.md)."


def _commitment() -> Iterator[str]:
    default = CommitmentSettings()
    yield "## Storage commitment\n"
    yield f"As an SCU of the Push Model (`{STORAGE_COMMITMENT}`), towards peers with `commitment: true`:\n"
    yield "- N-ACTION (action type 1) in Implicit VR Little Endian, on an association of its own, with at most"
    yield f"  {default.max_instances} instances (`commitment.max_instances`), without role selection."
    yield f"- N-EVENT-REPORT on the same association, which stays open for {default.wait_s:g} s (`commitment.wait_s`),"
    yield "  or on one that the peer requests: to the node's AE title and port, from the peer's AE title, in Implicit"
    yield "  or Explicit VR Little Endian. The role of an SCP is granted if it is proposed, and not asked for."
    yield "- Reports may come before the answer, or hours later, also on a request that was repeated since. A peer that"
    yield f"  has not reported after {default.ask_again_s / 3600:g} hours (`commitment.ask_again_s`) is asked again"
    yield f"  with a new Transaction UID, {default.max_requests} times (`commitment.max_requests`).\n"
    yield "An instance is committed if it was asked for and is in the Referenced SOP Sequence only. Answers:\n"
    yield from _table(("status", "when"), ((f"`0x{status:04X}`", words) for status, words in REPORT_ANSWERS.items()))


def _queried() -> Iterator[str]:
    yield "## Query and retrieve\n"
    yield "As an SCP, for AE titles in `peers` of the settings with `may_query` (C-FIND) and `may_retrieve` (C-GET,"
    yield "C-MOVE), in Implicit and Explicit VR Little Endian. Proposals of all others are rejected (user rejection).\n"
    yield from _table(
        ("SOP class", "UID", "levels"),
        (
            (UID(uid).name, f"`{uid}`", ", ".join(model.levels))
            for uid, model in sorted(QUERY_MODELS.items())
            if model.operation in PERFORMED
        ),
    )
    yield "\nKeys are those of [What can be searched](#what-can-be-searched), matched as over QIDO-RS: `*` and `?`,"
    yield "ranges of dates and times, lists of UIDs and modalities, names without regard to case. A patient is found by"
    yield f"{_in_line(PATIENT_KEYWORDS)}. Studies and series are also found by state and verdicts, and so"
    yield "are instances, by the state of their study and the verdicts of their series, if a UID narrows the query, in"
    yield f"a private block that the query names (creator `{PRIVATE_CREATOR}` in group {PRIVATE_CREATOR_TAG[:4]})."
    yield "All attributes that the index holds of a level and of the levels above it are returned if they are asked for"
    yield "(empty if the objects have none), with Modalities in Study and the numbers of related series, instances and"
    yield "studies; Retrieve AE Title is always returned. A key that is not matched here is left out of the query, and"
    yield "each match has the status `0xFF01`.\n"
    yield "Matches have the Specific Character Set of the query if it is a single one without escape sequences that has"
    yield "all their letters, else ISO_IR 192 (UTF-8), and none if they are ASCII.\n"
    yield "C-GET needs the unique keys of its level and of those above, and no others; the peer proposes to be the"
    yield "SCP of the storage SOP classes that it takes (role selection). An instance is sent as it is stored if that"
    yield "transfer syntax was accepted for its SOP class, else decompressed to Explicit or Implicit VR Little Endian;"
    yield "of the transfer syntaxes in one presentation context these two are accepted first. Whatever cannot be sent"
    yield "counts as failed, and is in the Failed SOP Instance UID List.\n"
    wait_s = QueryRetrieveSettings().move_wait_s
    yield "C-MOVE needs the same keys, and a Move Destination that is the AE title of a peer with `may_retrieve`. The"
    yield "instances are sent by the outbox, in the transfer syntaxes in which they are stored, with Move Originator AE"
    yield "Title and Message ID. A delivery that fails for now is tried again, for as long as instances arrive or"
    yield f"`query_retrieve.move_wait_s` ({wait_s:g} s) have not passed without one; what is left then counts as"
    yield "failed and is tried again later. Pending responses follow the outbox. C-CANCEL cancels what is not on its"
    yield "way, and what fails on its way. Warnings of the destination count as completed.\n"
    yield "Extended negotiation: relational queries are granted, and need no unique keys of levels above; so are"
    yield "fuzzy matching of person names (by words, in any order, with other vowels and accents) and matching of"
    yield "several values, which is done without it, too. Combined matching of date and time (of studies, and of the"
    yield "start of a performed procedure step) and adjustment of time zones are granted. Enhanced multi-frame"
    yield "conversion and matching of empty values are not granted. At the level IMAGE,"
    yield "attributes of instances other than UIDs and Instance Number are matched only if a UID narrows the query."
    yield "C-CANCEL is heeded between two responses.\n"
    yield from _table(("status", "kind", "of", "when", "what the peer may do"), _status_rows(query_status))


def _in_line(words: Iterable[str]) -> str:
    *first, last = sorted(words)
    return f"{', '.join(first)} and {last}"


def _run() -> Iterator[str]:
    yield "## What is run\n"
    images = sorted(UID(uid).name for uid in objects.IMAGE_CLASSES)
    yield f"Instances of {', '.join(images[:-1])} and {images[-1]}, unless one of these holds:\n"
    yield "- this node wrote it, or another installation of it (`own-result`);"
    yield f"- Image Type has LOCALIZER (`localizer`) or {' or '.join(sorted(objects.MAP_IMAGE_TYPES))} (`derived-map`);"
    yield "- Pixel Presentation is COLOR (`derived-map`), or the pixels are in colour (`colour-image`);"
    yield "- a UID that identifies it is missing (`uid-missing`, `sop-class-missing`).\n"
    yield from _mosaics()
    yield "The rules that come with the node skip these series before anything is read; the first that takes every"
    yield "instance of a series decides:\n"
    rules = load_rules(None, peer_names=()).series
    yield from _table(
        ("rule", "when", "what happens"),
        (
            (
                f"`{rule.name}`",
                "; ".join(f"{keyword} {_in_words(condition)}" for keyword, condition in rule.when.items()) or "always",
                f"skipped: {rule.reason}" if rule.action is Action.SKIP else "processed",
            )
            for rule in rules
        ),
    )
    yield "\nInstances of all other SOP classes are kept and found by QIDO-RS, and no model sees them. A series of"
    yield "them alone is *skipped* (`not-a-ct-or-mr-image`); in a series with images they are left out with a remark"
    yield "(`objects-left-out`, or `pictures-left-out` where they may show a face, which keeps their study for"
    yield "review). The offline command names them in `summary.json`:\n"
    yield from _table(("code", "SOP classes"), _class_rows())


def _mosaics() -> Iterator[str]:
    yield f"Of MR Image Storage, pictures with {objects.MOSAIC} (Siemens) or {objects.VFRAME} (United Imaging) in Image"
    yield "Type hold a slice in each tile. They are cut into slices by these attributes:\n"
    yield from _table(
        ("what", f"Siemens, {objects.MOSAIC}", f"United Imaging, {objects.VFRAME}"),
        (
            ("private creators", "`SIEMENS CSA HEADER`, `SIEMENS MR HEADER`", "`Image Private Header`"),
            (
                "number of tiles",
                "NumberOfImagesInMosaic of the CSA header (0029,xx10), or (0019,xx0A)",
                "items of (0065,xx51), and (0065,xx50) where it is there",
            ),
            (
                "first position",
                "Image Position (Patient), half the picture less half a tile further along both sides",
                "Image Position (Patient) in the item of the tile",
            ),
            (
                "other positions",
                "SliceNormalVector of the CSA header, Spacing Between Slices (0018,0088)",
                "Image Position (Patient) in the item of the tile",
            ),
        ),
    )
    yield "\nWhere one of them is missing, or contradicts another or the pixels, the series is refused (`mosaic`)."
    yield "Frames of a SEG have a tile's size and place, and name the mosaic as their source: without frame number, and"
    yield "with Spatial Locations Preserved NO, because a tile does not lie where the mosaic's own attributes say.\n"


def _in_words(condition: Any) -> str:  # noqa: ANN401  # a model of the rules
    told = condition.model_dump(exclude_none=True, exclude_defaults=True, by_alias=True)
    return ", ".join(f"{key.replace('_', ' ')} {_listed(value)}" for key, value in told.items())


def _listed(value: object) -> str:
    return " / ".join(map(str, value)) if isinstance(value, (list, tuple, frozenset)) else str(value)


def _class_rows() -> Iterator[Sequence[str]]:
    named: dict[str, list[str]] = {}
    for uid in STORAGE_SOP_CLASSES - objects.IMAGE_CLASSES:
        ds = Dataset()
        ds.SOPClassUID = uid
        try:
            objects.check_suitable(ds, "")
        except errors.UnsuitableObjectError as error:
            name = NEWER.get(uid, UID(uid).name).removesuffix(" Storage").removesuffix(" Image")
            named.setdefault(error.code, []).append(name)
    for code in sorted(named):
        yield f"`{code}`", ", ".join(sorted(named[code]))


def _stacks() -> Iterator[str]:
    yield "## One series, several volumes\n"
    yield "The planes of a series are divided into stacks; each plane is in exactly one, and no stack has two"
    yield "planes at one position:\n"
    yield "1. by matrix size, pixel spacing and orientation (direction cosines within"
    yield f"   {stacks.PARALLEL_TOLERANCE:g}, of mosaics {stacks.MOTION_TOLERANCE:g}, which follow the head's motion);"
    yield f"2. where planes share positions, by the fewest of these attributes (at most {divide.MAX_TRAITS} at once)"
    yield "   that leave whole images: first by contrast, then by repetition;"
    yield "3. where no attribute tells, by the order of Instance Number or of times, if it is the same at every"
    yield "   position;"
    yield "4. images that were pushed into each other (every second slice of another contrast) are taken apart"
    yield "   too;"
    yield "5. each mosaic is an image by itself, which these attributes only name.\n"
    yield from _table(
        ("attribute", "it makes"),
        ((f"`{trait.name}`", "another contrast" if trait.is_contrast else "a repetition") for trait in TRAITS),
    )
    yield "\nVendors' private attributes are read where the standard's are missing: diffusion (Siemens, GE,"
    yield "Philips, United Imaging), phase images (GE). Results name their stack (`stack_name` of the report, Content"
    yield "Description of the SEG).\n"
    yield "Which stacks are run, the key `stacks` of a rule says; left out, it is"
    yield f"`[{', '.join(DEFAULT_POLICY)}]`:\n"
    yield from _table(("word", "what is run"), ((f"`{choice}`", CHOICES[choice]) for choice in StackChoice))


def _geometry() -> Iterator[str]:
    yield "## Geometry and pixels\n"
    yield "Positions decide (Image Position and Orientation, Patient); Spacing Between Slices, Slice Thickness,"
    yield "Instance Number and Gantry/Detector Tilt never do, but for the tiles of mosaics (above). What results lie on"
    yield "is always the frames as they were received. Numbers count whatever VR they came with (text, UN, a decimal"
    yield "comma). MR that is stored to be shown inverted (MONOCHROME1) is inverted for the models; CT is not. Pixel"
    yield "Padding, and voxels without a finite number, are air.\n"
    yield from _table(
        ("what", "bound", "beyond it"),
        (
            ("slices of a stack", f"at least {limits.MIN_SLICES}", "`too-few-slices`"),
            ("any orientation, feet or head first, lying on a side", "none", "-"),
            ("lean of a stack (gantry tilt)", f"{geometry.MAX_TILT_DEG:g} degrees", "`gantry-tilt`"),
            (
                "slices shifted sideways",
                f"{geometry.MAX_SHIFT_FRACTION:.0%} of rows or columns",
                "`slices-not-aligned`",
            ),
            (
                "one gap",
                f"{geometry.MAX_GAP_FRACTION:.0%} of the stack's length",
                "`slice-gap`",
            ),
            (
                "missing slices",
                f"{1 - 1 / geometry.MAX_PLANES_WITH_MISSING:.0%} of all",
                "`slice-gap`",
            ),
            (
                "changing distances: slices of the even grid that meets all",
                f"{geometry.MAX_PLANES_OF_CHANGING} for each that is there",
                "`spacing-not-uniform`",
            ),
            ("steps that count as even", f"{slice_grid.STEP_TOLERANCE:.0%} of the step", "a remark"),
            ("stacks that are run", str(limits.MAX_STACKS), "`multiple-time-points`"),
            ("pixels of a frame", f"{limits.MAX_PLANE_PIXELS:,}", "`pixel-format`"),
            ("tiles of a mosaic", str(limits.MAX_TILES), "`mosaic`"),
            ("voxels of a series; of mosaics, those that are run", f"{limits.MAX_VOXELS:,}", "`series-too-large`"),
            ("pixel data of a series as received", _gib(limits.MAX_ENCODED_BYTES), "`series-too-large`"),
            ("of those, inflated or in an unusual encoding", _gib(limits.MAX_HELD_BYTES), "`series-too-large`"),
            ("one instance", _gib(limits.MAX_OBJECT_BYTES), "`object-too-large`"),
            ("sequences inside each other", str(MAX_SEQUENCE_DEPTH), "`nested-too-deeply`"),
            (
                "direction cosines: length 1 and a right angle",
                f"{planes.ROUNDED_TOLERANCE:g} off; beyond {planes.DIRECTION_TOLERANCE:g} made exact, with a remark",
                "`geometry-missing`",
            ),
            (
                "planes unlike all others, one or two of a kind",
                f"one, or {odd_planes.MOST_ODD_SHARE:.0%} of all; left out, with a remark",
                "`mixed-sizes`, `mixed-orientations`",
            ),
            ("bits", "8, 16 or 32 allocated, any number stored, signed or not; 32 or 64 bit float", "`pixel-format`"),
            ("rescale", "slope and intercept, for each frame; no Modality LUT Sequence", "`rescale`"),
            ("rescale that differs between slices", "values go on from slice to slice", "`rescale-differs`"),
            (
                "pixel data behind the last frame",
                "less than a frame, zeros, or the frames again",
                "`pixel-data-too-long`",
            ),
            (
                "size of a volume",
                f"{SMALLEST_VIEW_MM:g} to {LARGEST_VIEW_MM:g} mm, at most {LARGEST_WIDTH_MM:g} mm along two sides",
                "`field-of-view`",
            ),
        ),
    )


def _nifti() -> Iterator[str]:
    yield "## NIfTI\n"
    yield "The offline command reads NIfTI-1 and NIfTI-2, in one file or as a pair, in either byte order, plain, gzip"
    yield "or bzip2, whatever the name says. Masks take over sizes, transforms and codes of their source bit by bit, so"
    yield "that every program shows them where it shows the source; texts and extensions are left out.\n"
    yield from _table(("field", "what is read", "what is remarked on, and what is refused"), _nifti_rows())


def _nifti_rows() -> Iterator[Sequence[str]]:
    sizes = f"{nifti_space.SIZE_TOLERANCE:.0%}"
    lowest_mm, highest_mm = nifti_space.LONGEST_SIDE_MM
    yield (
        "`dim`",
        f"three axes of at least {limits.MIN_SLICES} voxels; of several volumes the first",
        "`volumes-not-run`; `too-few-slices`, `nifti-dimensions`, `nifti-too-large`",
    )
    types = ", ".join(np.dtype(kind).name for kind in sorted(nifti_header.TYPES.values(), key=lambda one: one[::-1]))
    yield "`datatype`", types, "`nifti-data-type`"
    yield (
        "`vox_offset`",
        "as it says, if that is after the header and its extensions, and the voxels are in the file",
        "`vox-offset-corrected` where the file's size says where they are; `nifti-unreadable`, `voxels-left-over`",
    )
    yield (
        "`scl_slope`, `scl_inter`",
        "applied; a slope of 0 or NaN means unscaled",
        "`intercept-not-used`; an intercept that is no number: `nifti-unreadable`",
    )
    yield (
        "`sform_code` > 0",
        f"the sform, if it has right angles and its columns are as long as `pixdim` says, within {sizes}",
        "`affine-straightened`, `sform-qform-differ`, `qform-not-used`",
    )
    yield (
        "a sform that disagrees with `pixdim`, is sheared, zero or no number",
        "the qform",
        "`sform-not-used`; without a usable qform `nifti-affine`, but for the next rows",
    )
    yield (
        "no usable qform, and `pixdim` is 1, no size, or within " + f"{nifti_space.MAX_DOUBT:.0%} of the sform",
        "the sform",
        "`pixdim-not-used`",
    )
    yield (
        "no usable qform, and a sform whose columns all have length 1",
        "its directions with the sizes of `pixdim`",
        "`sform-scaled`",
    )
    yield (
        "both codes 0",
        "sizes from `pixdim`, i to the left, j to the front, k to the head",
        "`orientation-unknown`",
    )
    yield (
        "`xyzt_units`",
        "metres and micrometres are converted, every other code is millimetres",
        f"`nifti-units` where a longest side is not {lowest_mm:.0f} to {highest_mm:.0f} mm in the unit",
    )


def _gib(n_bytes: int) -> str:
    return f"{n_bytes / 2**30:g} GiB"


def _refusals() -> Iterator[str]:
    yield "## What is refused, and why\n"
    yield "In the node a job that is refused is `dead`, `jobs show` has the sentence, the study is for review, and"
    yield "nothing is sent. `dicom-node segment` lists it in `summary.json` and, but for those marked *left out*,"
    yield "ends with exit code 3. A single object among good images of its series does not refuse the series when"
    yield "it is only of another kind (*left out*); a damaged image does, because the volume would have a hole.\n"
    yield "### About one object\n"
    yield from _table(("code", "what it says", "what to do", "offline"), _object_rows())
    yield "\n### About a file or folder\n"
    yield "Only the offline command meets these. Files are known by their first bytes, compressed ones (gzip, bzip2) by"
    yield "what is in them. Links to files and folders are followed, each folder once, and results are named by the"
    yield "visible path."
    yield ""
    yield from _table(("code", "what it is, and what to do", "offline"), _file_rows())
    yield "\n### About a series\n"
    yield f"With `{SHOWN_UID}` for the series and numbers that stand for any.\n"
    yield from _table(("code", "what it says", "what to do"), _stack_rows())


def _leaves(base: type[Exception]) -> Iterator[Any]:
    """Errors below ``base`` that have a code of their own."""
    for below in sorted(base.__subclasses__(), key=lambda one: getattr(one, "code", "")):
        if "code" in vars(below) and below is not errors.NiftiError:
            yield below
        yield from _leaves(below)


def _object_rows() -> Iterator[Sequence[str]]:
    for leaf in sorted(_leaves(errors.UnsuitableObjectError), key=lambda one: str(one.code)):
        yield f"`{leaf.code}`", leaf.what, leaf.way_out, "left out" if leaf.code in NOT_MEANT_CODES else "failed"


def _file_rows() -> Iterator[Sequence[str]]:
    for code, meaning in sorted(FILE_CODES.items()):
        yield f"`{code}`", meaning, "left out" if code in NOT_MEANT_CODES else "failed"


def _stack_rows() -> Iterator[Sequence[str]]:
    for leaf in (*_leaves(errors.StackError), *_leaves(errors.NiftiError)):
        uid = "scan.nii.gz" if issubclass(leaf, errors.NiftiError) else SHOWN_UID
        said, _, to_do = str(leaf(uid, *EXAMPLES[leaf.code])).partition("; not processed, ")
        yield f"`{leaf.code}`", said, to_do or "-"


def _remarks() -> Iterator[str]:
    yield "## What is remarked on\n"
    yield "These did not stop a series; they stand in `remarks` of its report, with `...` for what differs.\n"
    yield from _table(("code", "what it says"), ((f"`{code}`", text) for code, text in sorted(remark_texts().items())))


def remark_texts() -> dict[str, str]:
    """Every remark that the code can make, by its code."""
    found: dict[str, str] = {}
    for package in (inference, dicom_node):
        for path in sorted(Path(package.__path__[0]).rglob("*.py")):
            source = path.read_text(encoding="utf-8")
            if "Remark(" not in source:  # to parse all of them takes seconds
                continue
            for function in ast.walk(ast.parse(source)):
                if isinstance(function, ast.FunctionDef):
                    found.update(_remarks_in(function))
    doubted = "why the series counted as complete, although something spoke against it"
    return found | {RemarkCode.COMPLETENESS_DOUBTED.value: doubted}


def _remarks_in(function: ast.FunctionDef) -> Iterator[tuple[str, str]]:
    assigned: dict[str, list[tuple[int, ast.expr]]] = {}
    for node in ast.walk(function):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            assigned.setdefault(node.targets[0].id, []).append((node.lineno, node.value))
    for node in ast.walk(function):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Remark":
            code, text = node.args
            if not isinstance(code, ast.Attribute):
                raise TypeError(f"{ast.unparse(node)}: the code of a remark is no member of RemarkCode")
            yield RemarkCode[code.attr].value, _text_of(text, assigned, node.lineno)


def _text_of(node: ast.expr, assigned: Mapping[str, list[tuple[int, ast.expr]]], line: int) -> str:
    """A text with ``...`` for what is only known later; a variable is what was last assigned to it."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(_text_of(part, assigned, line) for part in node.values)
    if isinstance(node, ast.FormattedValue):
        return _text_of(node.value, assigned, line)
    if isinstance(node, ast.Name):
        before = [value for at, value in sorted(assigned.get(node.id, []), key=lambda one: one[0]) if at <= line]
        if before:
            return _text_of(before[-1], {}, line)
    return "..."


def _written() -> Iterator[str]:
    yield "## What is written\n"
    yield "For each stack one Segmentation Storage object (BINARY, Explicit VR Little Endian), on the frames of the"
    yield "source, in the source's study and frame of reference, in a series of its own (Series Number of the"
    yield f"source + {SERIES_NUMBER_OFFSET}; Manufacturer *{MANUFACTURER}*, model *{MANUFACTURER_MODEL_NAME}*). A"
    yield "segment without a voxel is left out, and with none left there is no SEG: the SR says what was looked for."
    yield "Patient and study attributes are the source's bytes.\n"
    yield from _table(
        ("segment label", "category", "property type", "modifier"),
        (
            (
                terms.label,
                _coded(terms.category),
                _coded(terms.property_type),
                _coded(terms.modifier) if terms.modifier is not None else "-",
            )
            for terms in SEGMENT_TERMS.values()
        ),
    )
    yield "\nFor each stack, with or without a SEG, one Comprehensive SR Storage object (PS3.16 TID 1500), in a series"
    yield f"of its own (Series Number of the source + {REPORT_SERIES_NUMBER_OFFSET}). It has one measurement group for"
    yield "each of the two segments: TID 1411 with the segment as its region, or TID 1501 with the source images if"
    yield "nothing was found.\n"
    yield from _table(
        ("measurement or evaluation", "group", "value"),
        (
            (_coded(VOLUME), "both", "mL, whole voxels of the source grid; 0 if nothing was found"),
            (_coded(SHARE_OF_BODY), "anonymized area", "%"),
            (_coded(FACE_VERDICT), "anonymized area", ", ".join(_coded(concept) for concept in VERDICTS.values())),
            (_coded(VERDICT_PROBABILITY), "anonymized area", "0 to 1"),
            (_coded(COMMENT), "anonymized area", "reasons of the verdict and remarks, one sentence each"),
        ),
    )
    yield "\nBoth groups state name and version of their model, and the SHA-256 of its files, as algorithm"
    yield "identification (TID 4019); the anonymized area also states the digest of the calibration and the thresholds"
    yield "of the verdict. Tracking Identifier and Tracking UID are those of the segment, and stay the same when the"
    yield "series is done again."
    yield "\nFor each study that may leave, one Key Object Selection Document (PS3.16 TID 2010), title"
    yield f"{_coded(FOR_RESEARCH_COLLECTION_EXPORT)}, in a series of its own: the source instances of the series that a"
    yield "model has looked at, and their SEG and SR. It lists no scouts. A study that may not leave has none, and no"
    yield "rejection note is ever written; a document that no longer holds is hidden. Peers get it if `kos` is among"
    yield "their `results`."
    yield "\nThe node sends results by C-STORE or STOW-RS, offers everything by QIDO-RS and WADO-RS, and asks peers"
    yield "how many instances a series has by C-FIND (Study Root) or QIDO-RS where `series.ask_peers` or"
    yield "`verify_counts` say so. Of a series that is done again, because slices came late or the models were changed,"
    yield "the newer SEG says which"
    yield "object it replaces (Referenced Image Sequence, purpose *Replaced result*), and the newer SR names the"
    yield "earlier ones as Predecessor Documents."


def _coded(concept: Any) -> str:  # noqa: ANN401  # highdicom's CodedConcept
    return f"{concept.scheme_designator} {concept.value} *{concept.meaning}*"


def _retrieved() -> Iterator[str]:
    yield "## What is given out over HTTP\n"
    yield 'Studies, series and instances come as `multipart/related; type="application/dicom"`, as `application/zip` (a'
    yield "folder for each series, named by UIDs; as stored unless `transfer-syntax` is given), or, one instance, as"
    yield "`application/dicom`. Old clients get one instance from `/wado?requestType=WADO` (WADO-URI) with `studyUID`,"
    yield "`seriesUID`, `objectUID`, `contentType`, `transferSyntax`, `frameNumber`, `rows`, `columns`, `region`,"
    yield "`windowCenter`, `windowWidth` and `imageQuality`. `anonymize` and `presentationUID` are refused, because an"
    yield "answer without them would show what should be hidden; annotations are ignored, with a Warning header.\n"
    yield "HEAD is answered like GET without a body; OPTIONS of the root with the capabilities (WADL or JSON), and of a"
    yield "resource with its methods. Whatever is below an instance has an ETag and is answered with 304 for"
    yield "If-None-Match; bulk data take one byte range. JSON is compressed with zstd or gzip. `web.cors_origins` names"
    yield "the sites whose pages may use DICOMweb; without it no page of another site can read anything."


def _shown() -> Iterator[str]:
    yield "## What is shown as pictures\n"
    yield "`/rendered` and `/thumbnail` of a study, a series, an instance or a frame are answered with"
    yield f"{', '.join(f'`{kind}`' for kind in FORMATS)}, or `multipart/related` with a picture for each frame (at most"
    yield f"{MAX_PICTURES} in one answer). One picture for several images is the frame in the middle of the longest"
    yield "series; a thumbnail is always one. Modality LUT or rescaling, VOI LUT Sequence, or the first window with its"
    yield "function, or else all values of the frame; MONOCHROME1, palettes and YBR are converted, pixels that are not"
    yield f"square are made so, within {MAX_VIEWPORT_PIXELS} pixels of a side. A picture that takes more memory than"
    yield "`web.decoding_bytes` is refused with 406 (`picture-too-large`). Overlays, shutters, presentation"
    yield "states and ICC profiles are not applied. Parameters:\n"
    yield from _table(
        ("parameter", "value"),
        (
            ("`window`", f"`center,width` or `center,width,function` with {', '.join(FUNCTIONS)}; grey images only"),
            (
                "`viewport`",
                f"`vw,vh` or `vw,vh,sx,sy,sw,sh`, sides up to {MAX_VIEWPORT_PIXELS}; negative `sw`, `sh` mirror",
            ),
            ("`quality`", f"1 to 100, {DEFAULT_QUALITY} without it; `image/jpeg` and `image/jp2`"),
        ),
    )


def _searched() -> Iterator[str]:
    yield "## What can be searched\n"
    yield "QIDO-RS and C-FIND match these attributes. Over QIDO-RS, any other attribute is answered with 400"
    yield "(`unsupported-filter`), and so is a word that looks like a keyword and is none, because"
    yield "leaving a filter out would return other patients' studies; what is no attribute (`_dc`) is ignored, with a"
    yield "Warning header. A level has those of the levels above it too. A parameter given several times matches any of"
    yield "its values. `fuzzymatching=true` matches the words of person names in any order, with other vowels and"
    yield "accents. `includefield` adds attributes that only the metadata have, to the first"
    yield f"{MAX_ENRICHED} results; `all` does so for instances. Among instances, attributes without a column of the"
    yield "index (`Manufacturer`, `Rows`, ...) need a UID beside them. XML is"
    yield '`multipart/related; type="application/dicom+xml"`. Request Attributes Sequence is known of series that came'
    yield "with this version or a later one. A date is `YYYYMMDD` and a time `HHMMSS.FFFFFF`, which may be shorter,"
    yield "or a range of them. Over QIDO-RS another form (`2026-01-01`, wildcards, a list) is answered with 400, while"
    yield "C-FIND compares it as text. QIDO-RS takes the forms of ACR-NEMA (`2026.01.01`, `10:30:59`) too: a range as"
    yield "one of today's form, a single value in either form. A range of dates and a range of times of studies, or of"
    yield "performed procedure steps, match as one range from the first moment to the last. With TimezoneOffsetFromUTC"
    yield "in the query, dates are those of that time zone: moments of studies that state their own offset are"
    yield "converted, others are taken as they are written, and so is a time without a date.\n"
    above: frozenset[str] = frozenset()
    rows = []
    for level in ("study", "series", "instance"):
        rows.append((level, ", ".join(sorted(SEARCHABLE[level] - above))))
        above = SEARCHABLE[level]
    yield from _table(("level", "attributes"), rows)
    yield f"\nStudies and series are returned with a private block, creator `{PRIVATE_CREATOR}` in"
    yield f"{_shown_tag(PRIVATE_CREATOR_TAG)}. Both attributes can be searched by their tag (`?{STATE_TAG}=REVIEW`),"
    yield "with one value or several with commas between; [studies.md](studies.md) says what the states mean. They"
    yield "are in answers only, never in objects.\n"
    states, words = (", ".join(values).upper() for values in (list(GateState), sorted(severity.VERDICTS)))
    found = f"{_shown_tag(VERDICTS_TAG)} verdicts of the series, or of all series of the study; none before processing"
    yield from _table(
        ("attribute", "VR", "values"),
        ((f"{_shown_tag(STATE_TAG)} state of the study", "CS", states), (found, "CS", words)),
    )


def _shown_tag(tag: str) -> str:
    return f"({tag[:4]},{tag[4:]})"


def _table(head: Sequence[str], rows: Iterator[Sequence[str]] | Sequence[Sequence[str]]) -> Iterator[str]:
    yield _line(head)
    yield _line(["---"] * len(head))
    for row in rows:
        yield _line([cell.replace("|", "/") for cell in row])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    CONFORMANCE.write_text(conformance(), encoding="utf-8")
    sys.stdout.write(f"{CONFORMANCE}\n")
