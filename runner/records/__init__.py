"""The run folder OUTPUT.run: what is done, by whom, from what."""
