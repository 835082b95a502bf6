"""Contributions: connected databases tell the record what they know."""
