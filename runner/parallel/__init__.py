"""Models split over the ranks of a group, which hold one replica together.

The first rank of a group is its leader: the schedule, the ledger and the collection deal with leaders only. The leader
reads the rows, and sends the model's inputs to the other members (`channel.py`); then all call their part of the model.
"""
