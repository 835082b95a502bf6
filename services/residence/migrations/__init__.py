"""Migrations of the tables of residence."""
