"""``python -m dicom_node.cli``: the same as ``dicom-node``."""

from dicom_node.cli import app

if __name__ == "__main__":
    app(prog_name="dicom-node")
