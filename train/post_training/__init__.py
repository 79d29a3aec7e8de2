"""Post-training of a pre-trained model with TRL: `train/finetune.py`."""
