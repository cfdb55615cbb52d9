"""The run folder: files that are there whole or not at all, their layout, draws and scores, progress."""
