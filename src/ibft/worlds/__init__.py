"""Generated data and problems whose truth is known: for demos, experiments and tests."""
