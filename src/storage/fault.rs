//! A seam for tests: the operations that make a file durable pass here, so that a test can let each of them fail, or be the
//! last one before a crash. Outside tests it does nothing.

use std::io;

/// Lets an operation on a file happen; in a test it may fail instead.
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

    /// What happens at an operation.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) enum Fault {
        /// It fails with this error of the system, once.
        Once(i32),
        /// The process dies: this operation and all after it do not happen.
        Crash,
    }

    #[derive(Debug, Default)]
    struct Plan {
        /// Operations until the fault.
        left: Option<(usize, Fault)>,
        /// An operation of this name fails with this error, always.
        never: Option<(&'static str, i32)>,
        passed: Vec<&'static str>,
    }

    thread_local! {
        static PLAN: RefCell<Plan> = RefCell::default();
    }

    /// Plans a fault for this thread: operation `at`, counted from 0, is hit by it.
    pub(crate) fn strike(at: usize, fault: Fault) {
        PLAN.with_borrow_mut(|plan| plan.left = Some((at, fault)));
    }

    /// From here on operations of this name fail with this error, as on a system that does not know them.
    pub(crate) fn refuse(what: &'static str, errno: i32) {
        PLAN.with_borrow_mut(|plan| plan.never = Some((what, errno)));
    }

    /// Ends every plan of this thread; gives the names of the operations since the last call.
    pub(crate) fn calm() -> Vec<&'static str> {
        PLAN.take().passed
    }

    pub(crate) fn pass(what: &'static str) -> io::Result<()> {
        PLAN.with_borrow_mut(|plan| {
            plan.passed.push(what);
            if let Some((name, errno)) = plan.never
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
