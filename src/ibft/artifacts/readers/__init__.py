"""Samples in the files of other tools: which tool wrote a file is decided by what is in it, not by its name.

A tool is one file of this package: a struct of the fields that are read, with `answers`, which makes `rows.Sample` of
them. `detect` knows the fields by which each is recognized, and what is refused with the way around it.
"""

from ibft.artifacts.readers.detect import Samples, detect
from ibft.artifacts.readers.tasks import Tasks

__all__ = ["Samples", "Tasks", "detect"]
