"""Models that are split over the ranks of a group, which hold one replica together.

The first rank of a group leads it: for the schedule, the ledger and the collection there is only the leader. It reads
the rows, and says to the others (`channel.py`) what the model is called with; then all call their part of it.
"""
