"""The unit of systemd: its text, its sandbox as far as it can be had without systemd, and uninstalling."""
