"""The rehearsal as values: what was traced, proven and found, and what it comes to. Knows no database."""
