"""A run: its recipe, its folder, and what identifies a result."""
