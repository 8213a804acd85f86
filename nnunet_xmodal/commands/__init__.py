"""One module per command: it declares the options and calls the package."""
