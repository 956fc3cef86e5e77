"""Version of the writer, in a module without imports for processes that write no objects."""

from typing import Final

# Raise it whenever the same masks lead to other bytes; part of the pipeline digest.
WRITER_VERSION: Final = "6"
