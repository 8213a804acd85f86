"""Continuous maps, such as magnetic susceptibility."""
