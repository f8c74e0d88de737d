"""Stages of a job, from its options to its report; every rank calls them alike."""
