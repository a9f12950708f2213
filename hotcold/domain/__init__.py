"""Pure rules: frozen dataclasses in, values out; no clock, network, file or environment."""
