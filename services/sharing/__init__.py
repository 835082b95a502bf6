"""Sharing: the record of the National Population Database, and everything that discloses from it."""
