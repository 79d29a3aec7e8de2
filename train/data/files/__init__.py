"""Files of rows: where they are, and how they are read."""
