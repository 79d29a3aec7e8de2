"""How good a model is: `python -m train.evaluation RUN_OR_HUB_ID`."""
