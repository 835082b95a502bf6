"""Migrations of the tables that every room has."""
