"""`python -m train.benchmark`: this model beside transformers' GPT-2, on the user's own machine."""
