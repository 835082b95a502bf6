"""The issuer's services: each RPC converts, calls one operation, and converts."""
