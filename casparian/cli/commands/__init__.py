"""One module a noun; `cli.main` lists them and imports the one that is asked for."""
