//! Fault injection for tests: every operation that makes a file durable calls [`pass`], so that a test can let each of
//! them fail, or crash there. Outside tests it does nothing.

use std::io;

/// Permits an operation on a file; in a test it may fail instead.
#[cfg(not(test))]
#[inline]
#[expect(clippy::unnecessary_wraps, reason = "in a test it may fail")]
pub(super) fn pass(_what: &'static str) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
pub(super) fn pass(what: &'static str) -> io::Result<()> {
    plan::pass(what)
}

#[cfg(test)]
pub(crate) mod plan {
    use std::cell::RefCell;
    use std::io;

    /// The fault to inject.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) enum Fault {
        /// The operation fails once with this errno.
        Once(i32),
        /// The process dies: this operation and all later ones fail.
        Crash,
    }

    #[derive(Debug, Default)]
    struct Plan {
        /// Operations until the fault.
        left: Option<(usize, Fault)>,
        /// Operations of this name always fail with this errno.
        unsupported: Option<(&'static str, i32)>,
        passed: Vec<&'static str>,
    }

    thread_local! {
        static PLAN: RefCell<Plan> = RefCell::default();
    }

    /// Plans a fault for this thread at operation `at`, counted from 0.
    pub(crate) fn inject(at: usize, fault: Fault) {
        PLAN.with_borrow_mut(|plan| plan.left = Some((at, fault)));
    }

    /// Makes operations of this name fail with this errno, as on a system without them.
    pub(crate) fn disable(what: &'static str, errno: i32) {
        PLAN.with_borrow_mut(|plan| plan.unsupported = Some((what, errno)));
    }

    /// Clears this thread's plan; returns the names of the operations since the last call.
    pub(crate) fn reset() -> Vec<&'static str> {
        PLAN.take().passed
    }

    pub(crate) fn pass(what: &'static str) -> io::Result<()> {
        PLAN.with_borrow_mut(|plan| {
            plan.passed.push(what);
            if let Some((name, errno)) = plan.unsupported
                && name == what
            {
                return Err(io::Error::from_raw_os_error(errno));
            }
            match &mut plan.left {
                None => Ok(()),
                Some((0, Fault::Crash)) => Err(io::Error::other("the process is gone")),
                Some((0, Fault::Once(errno))) => {
                    let errno = *errno;
                    plan.left = None;
                    Err(io::Error::from_raw_os_error(errno))
                }
                Some((left, _)) => {
                    *left -= 1;
                    Ok(())
                }
            }
        })
    }
}
