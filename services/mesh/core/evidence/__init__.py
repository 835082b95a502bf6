"""The append-only Merkle logs: what was disclosed, and who granted it."""
