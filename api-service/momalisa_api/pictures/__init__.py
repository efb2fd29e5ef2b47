"""Pictures that visitors bring: decoded in a process of its own, and fetched from public addresses."""
