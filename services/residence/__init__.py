"""Residence: where people live, permanently and for a time, and the households that live together."""
