"""The flow, one file a stage: each reads the recipe, calls engines and writes artifacts."""
