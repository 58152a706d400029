"""Reads of the book of record: plain SQL, one round trip each."""
