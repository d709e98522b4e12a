"""Scores in, words out."""
