"""Verbs on data that load no model."""
