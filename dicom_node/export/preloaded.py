"""Imported once by the server that forks the copying processes, so that they share modules and tables in memory.

Without it each process would import pydicom and highdicom and parse 22 MB of tables of its own.
"""

from dicom_node.export import workers
from dicom_node.export.attribute_types import types_of_iod
from dicom_node.export.public_words import public_meaning, vocabulary
from dicom_node.export.standard_table import read_table

__all__ = ["workers"]

types_of_iod("1.2.840.10008.5.1.4.1.1.2")  # CT Image Storage: any class loads the tables of all
public_meaning("", "")
vocabulary()
read_table()
