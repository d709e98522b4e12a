"""Benchmarks and problems of one's own."""
