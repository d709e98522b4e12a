"""Estimators, intervals and tests: pure."""
