"""Pass@k, Pass@k^(m) and their uncertainty."""
