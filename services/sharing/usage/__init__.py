"""Usage: the citizen sees who used his record."""
