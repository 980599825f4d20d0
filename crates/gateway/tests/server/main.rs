//! The gateway under faults and hostile input: every row of the list has a defined answer and a test.

mod bodies;
mod connections;
mod exactly_once;
mod failures;
mod headers;
mod hostile;
mod limits;
mod payments;
mod raw;
mod shop;
mod upstream;
