"""The record: identity of persons, asserted values with their provenance, and what follows from them.

On purpose it walks the descriptor of npd.common.v1.Person: its paths are the field catalogue, and no list of fields
stands in code. Everything else in this room treats a person as paths and bytes.
"""
