"""The borders between text and tokens, and between raw text and answers."""
