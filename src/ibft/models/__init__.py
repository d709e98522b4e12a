"""Models and tokenizers: loading, devices, processes."""
