"""This process and its host: launcher, devices, signals, versions."""
