"""Trust: what a parser folder is, which parsers there are, and whether one may run."""
