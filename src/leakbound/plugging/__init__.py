"""Our scorers, bounds and gates inside the tools of others, one file for each; each imports its tool when it is used."""
