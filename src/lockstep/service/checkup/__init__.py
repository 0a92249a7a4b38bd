"""What `doctor` looks at, one module per section of its answer."""
