"""Migrations of the room of notices."""
