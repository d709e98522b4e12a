"""Tiny bases with planted memory, what they recite, and experiments whose truth is known."""
