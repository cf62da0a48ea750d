"""What every folder may use: files and folders written whole or not at all, locks, and the caller's process."""
