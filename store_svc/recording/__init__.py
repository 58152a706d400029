"""Records what the topics of the other services report: one recorder for each topic."""
