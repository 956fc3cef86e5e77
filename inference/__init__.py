"""Read series and NIfTI files as volumes, and derive masks and verdicts from them, without DICOM network or store."""
