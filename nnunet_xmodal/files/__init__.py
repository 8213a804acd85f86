"""Files of any kind: written whole, claimed, read with care, and nothing temporary left behind."""
