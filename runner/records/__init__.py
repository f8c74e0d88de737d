"""The run folder OUTPUT.run: committed chunks, jobs, inputs."""
