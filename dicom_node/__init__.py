"""A DICOM node that finds the body foreground and the anonymised area of CT and MR series."""

__version__ = "0.1.0"
