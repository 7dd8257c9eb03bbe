//! Repeating a request that failed for a passing reason: exponential back-off with jitter, or as long as the server asks.

use super::fault::{FaultKind, ServerFault};
use std::time::Duration;

/// The pause before the first repetition; each further one is twice as long.
const FIRST: Duration = Duration::from_millis(500);
/// The longest pause by back-off.
const LONGEST: Duration = Duration::from_secs(30);
/// The longest pause that a server can ask for.
const LONGEST_ASKED: Duration = Duration::from_mins(5);

/// The pause before repetition `n`, counted from 0; `jitter` in 0..1 spreads requests that failed together.
pub(super) fn pause(n: u32, jitter: f64, asked: Option<Duration>) -> Duration {
    let backed_off = FIRST.saturating_mul(2u32.saturating_pow(n)).min(LONGEST).mul_f64(0.5 + 0.5 * jitter);
    match asked {
        // Never earlier than asked.
        Some(asked) => asked.min(LONGEST_ASKED).max(Duration::from_millis(10)) + backed_off.mul_f64(0.1),
        None => backed_off,
    }
}

/// Makes a request until it succeeds, fails for good, or has been repeated `retries` times. `wait` sleeps and says whether to go
/// on.
pub(super) fn with_retries<T>(
    retries: u32,
    mut jitter: impl FnMut() -> f64,
    mut wait: impl FnMut(Duration) -> bool,
    mut request: impl FnMut() -> Result<T, ServerFault>,
) -> Result<T, ServerFault> {
    let mut n = 0;
    loop {
        let fault = match request() {
            Err(fault) if fault.kind == FaultKind::Passing && n < retries => fault,
            other => return other,
        };
        if !wait(pause(n, jitter(), fault.retry_after)) {
            return Err(fault);
        }
        n += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_limit_and_obey_the_server() {
        let ms: Vec<u128> = (0..8).map(|n| pause(n, 1.0, None).as_millis()).collect();
        assert_eq!(ms, [500, 1000, 2000, 4000, 8000, 16000, 30000, 30000]);
        assert_eq!(pause(0, 0.0, None).as_millis(), 250);
        assert!(pause(0, 0.0, Some(Duration::from_secs(7))) >= Duration::from_secs(7));
        assert!(pause(60, 1.0, Some(Duration::from_secs(9999))) < Duration::from_secs(400));
    }

    #[test]
    fn only_passing_faults_are_repeated() {
        let run = |kind: FaultKind, good_at: u32| {
            let (mut calls, mut pauses) = (0, 0);
            let got = with_retries(
                3,
                || 0.5,
                |_| {
                    pauses += 1;
                    true
                },
                || {
                    calls += 1;
                    if calls == good_at { Ok(calls) } else { Err(ServerFault::new(kind, "x")) }
                },
            );
            (got.ok(), calls, pauses)
        };
        assert_eq!(run(FaultKind::Passing, 3), (Some(3), 3, 2));
        assert_eq!(run(FaultKind::Passing, 99), (None, 4, 3));
        assert_eq!(run(FaultKind::Request, 2), (None, 1, 0));
        assert_eq!(run(FaultKind::Every, 2), (None, 1, 0));
    }
}
