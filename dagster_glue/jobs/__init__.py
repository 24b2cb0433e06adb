"""Payloads as Ray jobs: submit once, follow through outages, say how they ended."""
