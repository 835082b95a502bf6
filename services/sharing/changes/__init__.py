"""Changes: the feed that connected systems follow."""
