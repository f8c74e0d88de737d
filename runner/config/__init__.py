"""Options of a job: declarations and checks."""
