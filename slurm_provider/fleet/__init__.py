"""The truth about a cluster's nodes: launch, list, cancel."""
