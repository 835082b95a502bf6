"""Verifies claims about an identified citizen: verdicts, never values."""
