"""Our scorers, bounds and gates inside the tools of others: a file for each, which imports its tool when used."""
