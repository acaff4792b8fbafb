"""Workloads: traces, generators and their replay."""
