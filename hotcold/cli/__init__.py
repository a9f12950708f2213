"""The `hotcold` command line."""
