"""The appliance in a room: a bare machine without a network, an ordinary user, and a stick."""
