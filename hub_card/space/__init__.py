"""A chat page for a trained model: on this machine, and as a Space on the Hub."""
