"""Migrations of the issuer's own tables."""
