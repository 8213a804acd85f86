"""Models that travel: a zip with a card, and what the card says."""
