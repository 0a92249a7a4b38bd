"""What statements lock, read off their text, and how to say the same without locking for long. Pure; no file, no server."""
