"""Write masks and verdicts as DICOM objects, and verify the written bytes against the masks."""
