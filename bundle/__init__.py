"""Tools that build the appliance. They run from the source tree; nothing of the product imports them."""
