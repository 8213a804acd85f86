"""Organs from one labelled scan."""
