"""Decides which programs may share an interpreter with their tests; read by path in a bare interpreter."""
