"""Questions with short answers, marked by exact match."""
