"""Lookup: verify, then release."""
