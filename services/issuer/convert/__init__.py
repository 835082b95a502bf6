"""The issuer's wire and its domain, turned into each other, by noun. Malformed input raises InvalidField."""
