"""Training objectives, one file each: a pure loss."""
