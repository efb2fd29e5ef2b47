"""Pictures and clips that visitors bring: read in processes of their own, and fetched from public addresses."""
