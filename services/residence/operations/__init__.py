"""The use cases of residence, by noun."""
