"""The one border between text and tokens: templates, tokens and masks, decoding, and what of a text is the answer."""
