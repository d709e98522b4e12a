"""The scan stage: how predictable the training data already is to the base model."""
