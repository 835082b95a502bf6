"""Migrations of the tables of civil status."""
