"""Serving HTTP: for the gateway, and for cameras that push media."""
