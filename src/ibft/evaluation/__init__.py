"""Executed evaluation while training: the model answers problems, and its programs run beside the next steps."""
