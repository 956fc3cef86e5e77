"""De-identified copies of DICOM objects, and the export of studies that may leave."""
