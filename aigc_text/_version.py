"""The version, where everything that needs it finds it."""

__version__ = "0.1.0"
