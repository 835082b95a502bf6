"""The issuer's use cases, one module per noun."""
