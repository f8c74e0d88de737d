"""Text generation: settings, sampling, the choice of each token, prompts and answers."""
