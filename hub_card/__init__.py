"""From a finished run folder to a model repository on the Hugging Face Hub: card, check, upload."""
