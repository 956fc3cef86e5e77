"""The command ``deidentify``: write de-identified copies of folders and archives, without a server."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from dicom_node.cli.errors import EXIT_FAILED

_EXAMPLES = 3  # file numbers that a line of refusals names


def deidentify(
    inputs: Annotated[list[Path], typer.Argument(metavar="INPUT", help="DICOM folders, zip archives or files.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="OUT", help="Folder for the copies.")],
    project: Annotated[
        str, typer.Option("--project", metavar="NAME", help="Two projects share no UID, pseudonym or date offset.")
    ],
    key_file: Annotated[
        Path, typer.Option("--key-file", metavar="FILE", help="At least 32 secret bytes, readable only by the owner.")
    ],
    profile: Annotated[
        Path | None, typer.Option("--profile", metavar="FILE", help="YAML instead of the built-in profile.")
    ] = None,
    workers: Annotated[int, typer.Option("--workers", min=1, max=64, metavar="N", help="Processes.")] = 2,
    crosswalk: Annotated[
        Path | None,
        typer.Option(
            "--crosswalk",
            metavar="FILE",
            help="Write the input of each file number. It may contain names: keep it apart.",
        ),
    ] = None,
) -> None:
    """De-identify DICOM files by PS3.15 Annex E, without a server.

    OUT/<patient>/<study>/<series>/ holds a copy of every object that the profile allows; a study appears completely
    or not at all. OUT/manifest.json says what was copied and refused, without values of a source. The same key and
    project make the same copies again. Faces in images are not detected by this command.

    Exit code 0: every object was copied. 3: some were refused, each with its reason. 2: bad key or profile.

    \b
    Example:
      (umask 077; head -c 32 /dev/urandom > study.key)
      dicom-node deidentify /data/study -o copies --project HEADS --key-file study.key
    """
    from dicom_node.cli.progress import counting_bar
    from dicom_node.export.folder import deidentify as run
    from dicom_node.export.inputs import find_sources, write_crosswalk
    from dicom_node.export.profile import read_profile
    from dicom_node.export.pseudonyms import Pseudonyms, read_key

    missing = next((number for number, path in enumerate(inputs, start=1) if not path.exists()), None)
    if missing is not None:
        raise typer.BadParameter(f"input {missing}: no such file or folder", param_hint="INPUT")
    if not project.strip():
        raise typer.BadParameter("is empty; name the project", param_hint="--project")
    pseudonyms = Pseudonyms(project.strip(), read_key(key_file))
    chosen = read_profile(profile)
    sources = find_sources(inputs, without=output)
    if crosswalk is not None:
        write_crosswalk(crosswalk, sources, output)
    with counting_bar("de-identifying", len(sources)) as advance:
        manifest = run(sources, output, profile=chosen, pseudonyms=pseudonyms, workers=workers, on_file=advance)
    counts = manifest.content["counts"]
    by_code = Counter(one["code"] for one in manifest.content["refused"])
    for code, n in by_code.most_common():
        some = [one for one in manifest.content["refused"] if one["code"] == code]
        numbers = ", ".join(str(one["file_number"]) for one in some[:_EXAMPLES]) + (" …" if n > _EXAMPLES else "")
        typer.echo(f"refused: {n} × {code} (file {numbers}): {some[0]['reason']}", err=True)
    typer.echo(
        f"{counts['copied']} of {counts['in']} files copied to {output}, {counts['refused']} refused, "
        f"{counts['duplicates']} duplicates, {counts['not_used']} not used; see manifest.json"
    )
    if counts["refused"]:
        raise typer.Exit(EXIT_FAILED)
