"""Thin Prefect tasks: one effect each, named by verb, retried, observable."""
