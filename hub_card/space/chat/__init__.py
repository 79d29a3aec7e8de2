"""The chat page. A Space gets this folder as it is: its imports are relative, and need no other part of the project."""
