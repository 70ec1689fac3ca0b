"""What the command line does, one typed function for a command; its docstring is the help."""
