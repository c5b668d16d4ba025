"""The sentinel as a service of systemd, and how an installation is taken off a machine again.

unit       the text of a unit, and reading one that lies there       manager   systemd's folders and `systemctl`
program    which command a unit runs                                 removal   uninstalling
"""
