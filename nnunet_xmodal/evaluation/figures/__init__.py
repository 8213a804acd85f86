"""Pictures of cases and tables."""
