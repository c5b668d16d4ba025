"""Code that runs in a guest: one module a reader. It is read as a parser is, and never imported by the host."""
