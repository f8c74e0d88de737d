"""What a model is called with, from the rows and the model's signature."""
