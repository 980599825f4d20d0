//! Time on the processor. What else runs on the machine counts as wall time but not as this thread's (or this process's)
//! time, so that steps can be compared on a busy machine, too.

use std::time::Duration;

use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use nix::time::ClockId;

static NANOSECONDS: WallTime = WallTime;

/// Time that this thread has been on a processor, as a measurement of criterion.
#[derive(Clone, Copy, Debug)]
pub struct ThreadTime;

/// How long this thread has been on a processor.
///
/// # Panics
/// If the system has no such clock.
#[must_use]
pub fn thread_time() -> Duration {
    let time = ClockId::CLOCK_THREAD_CPUTIME_ID.now();
    time.expect("the system counts the time of threads").into()
}

/// How long all threads of this process together have been on a processor.
///
/// # Panics
/// If the system has no such clock.
#[must_use]
pub fn process_time() -> Duration {
    let time = ClockId::CLOCK_PROCESS_CPUTIME_ID.now();
    time.expect("the system counts the time of processes").into()
}

impl Measurement for ThreadTime {
    type Intermediate = Duration;
    type Value = Duration;

    fn start(&self) -> Duration {
        thread_time()
    }

    fn end(&self, start: Duration) -> Duration {
        thread_time() - start
    }

    fn add(&self, a: &Duration, b: &Duration) -> Duration {
        *a + *b
    }

    fn zero(&self) -> Duration {
        Duration::ZERO
    }

    fn to_f64(&self, value: &Duration) -> f64 {
        value.as_nanos() as f64
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        NANOSECONDS.formatter()
    }
}
