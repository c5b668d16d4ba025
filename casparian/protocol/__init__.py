"""Identity, frames and messages: everything that two processes must agree on."""
