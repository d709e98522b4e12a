"""The command line: one verb per stage, and the verbs that need no recipe. Nothing here but arguments and output."""

from ibft.cli import data, export, judging, preview, serve, stages, start, world  # each adds its verbs to the program
from ibft.cli.program import main

__all__ = ["data", "export", "judging", "main", "preview", "serve", "stages", "start", "world"]
