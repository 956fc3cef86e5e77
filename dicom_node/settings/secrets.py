"""Secrets as files: each file of a folder becomes an environment variable, before settings are read.

Settings name secrets by environment variables (``token_env: ARCHIVE_TOKEN``), and a variable such as
``DICOM_NODE__NODE__DATABASE_URL`` overrides a key. Other users of a machine cannot see a file that they may not read,
while variables of a container are shown by whoever manages it. The folder is the one that systemd makes for a service
with ``LoadCredential``; a container mounts one and names it in the same variable.
"""

from __future__ import annotations

import re
from collections.abc import MutableMapping
from pathlib import Path

from dicom_node.settings.load import SettingsError

FOLDER_VARIABLE = "CREDENTIALS_DIRECTORY"  # systemd.exec(5)
FOLDER_PREFIX = "secret_"  # before each name, where LoadCredential=secret:FOLDER loaded a whole folder
MAX_BYTES = 65536
_VARIABLE = re.compile(r"[A-Z][A-Z0-9_]*")


def add_secrets(env: MutableMapping[str, str]) -> None:
    """Set a variable in ``env`` for each file of the folder that it names; one that is set already stays.

    Files whose names could not be variables (in capitals) are left alone. A line end at the end of a file is no part
    of the secret.

    Raises
    ------
    SettingsError
        The folder or a file in it cannot be read as text.
    """
    if not (name := env.get(FOLDER_VARIABLE)):
        return
    try:
        paths = sorted(Path(name).iterdir())
    except OSError as error:
        raise SettingsError(f"{FOLDER_VARIABLE}={name}", (f"cannot be read: {error.strerror}",)) from error
    for path in paths:
        variable = path.name.removeprefix(FOLDER_PREFIX)
        if _VARIABLE.fullmatch(variable) and variable not in env:
            env[variable] = _secret(path)


def _secret(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        text = content.decode()
    except OSError as error:
        raise SettingsError(str(path), (f"cannot be read: {error.strerror}",)) from error
    except UnicodeDecodeError:
        raise SettingsError(str(path), ("must hold text in UTF-8",)) from None
    if len(content) > MAX_BYTES or "\0" in text:
        raise SettingsError(str(path), (f"must hold text of at most {MAX_BYTES} bytes",))
    return text.rstrip("\r\n")
