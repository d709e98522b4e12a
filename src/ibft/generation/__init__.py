"""The generate stage: sampling answers to the benchmark's problems."""
