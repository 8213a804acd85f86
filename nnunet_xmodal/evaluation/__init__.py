"""Metrics, their statistics, and figures."""
