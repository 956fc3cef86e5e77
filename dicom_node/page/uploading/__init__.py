"""Files that people upload: DICOM files, folders and zip archives of them, on their way into the inbox."""
