"""The part of the plumbing without a wire: storage, evidence, identities, rights, errors. Imports no gRPC."""
