"""What runs inside the sandbox, read by path in a bare interpreter."""
