"""Migrations of the identity room's own tables."""
