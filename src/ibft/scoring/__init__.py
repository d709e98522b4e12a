"""How well a model knows an example: forward pass in, scores out."""
