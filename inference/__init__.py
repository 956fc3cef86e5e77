"""Series and NIfTI files to volumes, volumes to masks and verdicts; knows no DICOM network and no store."""
