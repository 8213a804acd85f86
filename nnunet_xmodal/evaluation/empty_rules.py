"""Names of the rules for empty labels; apart from the rules themselves, so that commands know them at once."""

EMPTY_RULES = ("nan", "brats")
"""See `empty_labels`."""
