"""Turn errors of any package into one line on standard error and an exit code."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from typing import Any

import typer
from typer.core import TyperGroup

EXIT_USAGE = 2  # bad usage or settings; nothing was done
EXIT_FAILED = 3  # part of the work failed
EXIT_INTERRUPTED = 130  # as shells report SIGINT


class NodeGroup(TyperGroup):
    """The top command: turns what its commands raise into ``error: ...`` and an exit code, never a traceback."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,  # noqa: ANN401 - as in the base class
    ) -> Any:  # noqa: ANN401
        """Run the command line."""

        def run() -> Any:  # noqa: ANN401
            return super(NodeGroup, self).main(args, prog_name, complete_var, False, windows_expand_args, **extra)

        if not standalone_mode:
            return run()
        try:
            sys.exit(run() or 0)
        except (typer.Abort, KeyboardInterrupt):
            exit_code = EXIT_INTERRUPTED
        except BrokenPipeError:  # `dicom-node jobs list | head`
            sys.stderr.close()
            exit_code = 1
        except Exception as error:  # noqa: BLE001 - the outermost handler
            exit_code = report_error(error)
        sys.exit(exit_code)


def report_error(error: Exception) -> int:
    """Write one line per problem to standard error and return the exit code for the error."""
    usage = getattr(error, "format_message", None)  # click's errors contain their text and their command
    if usage is not None:
        context = getattr(error, "ctx", None)
        if type(error).__name__ == "NoArgsIsHelpError":  # typer takes it from click or from its own copy of click
            typer.echo(str(usage()), err=True)
            return EXIT_USAGE
        fail(str(usage()))
        if context is not None:
            typer.echo(f"try: {context.command_path} --help", err=True)
        return EXIT_USAGE
    from dicom_node.failures import ErrorKind, classify

    if classify(error) is not ErrorKind.DEFECT or isinstance(error, MemoryError):
        fail(str(error) or "not enough memory")
        return EXIT_USAGE
    if isinstance(error, OSError) and error.strerror:
        fail(f"{error.filename}: {error.strerror}" if error.filename else error.strerror)
        return EXIT_USAGE
    fail(f"a defect of dicom-node ({type(error).__name__}); please report it with the lines that follow")
    for frame in traceback.extract_tb(error.__traceback__)[-3:]:
        typer.echo(f"  {frame.filename}:{frame.lineno} in {frame.name}", err=True)
    return EXIT_FAILED


def fail(message: str) -> None:
    """Write ``error: ...`` lines to standard error."""
    for line in message.splitlines():
        typer.echo(f"error: {line}", err=True)
