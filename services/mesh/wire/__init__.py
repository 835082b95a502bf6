"""The part of the plumbing on the wire: mutual TLS, calls, streams, policy, health."""
