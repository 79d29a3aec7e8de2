"""Chat with a model in the terminal: `python -m train.chat RUN_OR_HUB_ID`."""
