"""Files: written whole, read whole, locked, and checked for what they say."""
