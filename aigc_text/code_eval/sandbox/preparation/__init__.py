"""Prepares tests, so that a program decides nothing that they do not ask it; read by path in a bare interpreter."""
