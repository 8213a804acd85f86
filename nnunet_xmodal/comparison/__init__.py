"""Results of several models side by side: read, checked, computed, reported."""
