"""Pre-training of the model: data, recipes, the Trainer, evaluation."""
