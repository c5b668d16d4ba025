//! Which dialect a text has.
