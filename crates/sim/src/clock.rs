//! Two times that have nothing to do with each other: the parties' clock, which is virtual, and the stopwatch, which
//! measures how long the processor works for them.

use std::time::Duration;

use protocol::channel::Timestamp;

/// The parties' clock: stands still but for [`tick`](Self::tick).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VirtualClock(Timestamp);

/// Measures work. Real ones live with the caller; that of a test counts its readings.
pub trait Stopwatch {
    /// How long this thread has been on a processor: what else runs on the machine does not count.
    fn cpu(&self) -> Duration;

    /// How long it has been by the wall: with the other one, how much of a processor the thread had.
    fn wall(&self) -> Duration;
}

/// What some work took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// On the processor.
    pub cpu: Duration,
    /// By the wall.
    pub wall: Duration,
}

impl VirtualClock {
    /// A clock that shows `at`.
    pub fn new(at: Timestamp) -> Self {
        Self(at)
    }

    /// What it shows.
    pub fn now(&self) -> Timestamp {
        self.0
    }

    /// One second passes; what it shows then.
    pub fn tick(&mut self) -> Timestamp {
        self.0 = Timestamp(self.0.0 + 1);
        self.0
    }
}

impl Spent {
    /// Does the work and says what it took.
    pub fn on<T>(watch: &impl Stopwatch, work: impl FnOnce() -> T) -> (T, Self) {
        // The processor's time inside the wall's: reading that is no part of the work.
        let (wall, cpu) = (watch.wall(), watch.cpu());
        let done = work();
        let cpu = watch.cpu().saturating_sub(cpu);
        let wall = watch.wall().saturating_sub(wall);
        (done, Self { cpu, wall })
    }
}
