//! What the operator sees: a page, metrics, and the watch over wins.
