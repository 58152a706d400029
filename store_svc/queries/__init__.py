"""Reads of the database for the RPCs. Each takes one statement."""
