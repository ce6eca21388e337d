"""What a window is, and where its numbers live.

The room at the bottom of the house: recordings, windows, labels, folds, views and
the commit log that keeps them. It knows nothing of audio, networks or boosters.
"""
