"""Files: written whole or not at all, read back, and told apart from what was cut off."""
