//! Simulation: every role of a scheme in one process, from one seed and on a virtual clock, and with them the experiments
//! of the papers. The same seed gives the same keys, messages and sizes; only measured times differ. How time is measured
//! is the caller's affair ([`clock::Stopwatch`]).

pub mod channel;
pub mod chart;
pub mod clock;
pub mod seed;
mod text;
