"""Migrations of the registry's own tables."""
