"""The viewer: run folders as a page of this machine, read piece by piece from their files."""
