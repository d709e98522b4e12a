"""The code inside the sandbox. Standard library only: these files are executed there without site-packages."""
