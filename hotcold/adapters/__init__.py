"""One module per outside thing: release database, Envoy, MLflow, packages, engines, processes."""
