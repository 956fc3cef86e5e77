"""Masks and verdicts to DICOM objects, proved against their own written bytes."""
