"""Certificates of the National Population Database mesh: a root, three constrained issuing CAs, and their leaves.

Holds no network code and no policy about who deserves a certificate: `issuer` and the operators of a ceremony decide,
this library only refuses what a certificate of the mesh can never be. Needs `cryptography` alone.
Source: DESIGN.md part 5; RFC 5280.
"""
