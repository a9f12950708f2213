"""One public flow per module; each reads like a runbook."""
