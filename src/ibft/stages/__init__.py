"""The flow, one file per stage: each reads the recipe, calls engines and writes artifacts."""
