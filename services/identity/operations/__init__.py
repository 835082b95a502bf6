"""What the identity room does, by noun."""
