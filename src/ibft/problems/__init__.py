"""Benchmarks, and the problems of a user's own file."""
