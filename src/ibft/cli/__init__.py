"""The command line: one verb per stage, and the verbs that need no recipe. Nothing here but arguments and output."""

# Each adds its verbs to the program.
from ibft.cli import comparing, data, export, judging, preview, serve, stages, start, world
from ibft.cli.program import main

__all__ = ["comparing", "data", "export", "judging", "main", "preview", "serve", "stages", "start", "world"]
