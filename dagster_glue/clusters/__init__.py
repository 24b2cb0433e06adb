"""Clusters to run payloads on, whatever made them."""
