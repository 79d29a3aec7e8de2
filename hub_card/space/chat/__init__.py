"""The chat page. It travels to a Space as it is: its imports are relative, and need no other part of the project."""
