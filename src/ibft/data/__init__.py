"""Training pairs, benchmark problems, the prompt template they share, and tokenization."""
