"""Command line: arguments, commands, exit codes."""
