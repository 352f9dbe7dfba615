"""How pieces of text are written, which vocabularies and pages agree upon."""

BLANK = "▁"
"""A blank within a piece, as sentencepiece writes it."""

STAND_IN = "\ufdd0"
"""What pieces hold where a text has that very sign: a code point that Unicode keeps out of texts."""
