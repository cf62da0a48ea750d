"""Finds, checks, loads and converts models."""
