"""The judge stage: deciding by execution which answers are right."""
