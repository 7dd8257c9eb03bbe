//! Runs the engine of chat templates where a hostile template can do no harm.
//!
//! Owns the threads with the stack that nested values need, and the limits on time and memory that the engine's own fuel does not
//! give: joining lists, for one, is free of charge there. Refuses to wait: a rendering that does not end is left behind, and its
//! template is never used again.

use super::{Error, threads};
use crate::foreign;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

/// The stack: values may be nested as deep as the engine's fuel lasts, and are dropped recursively.
const STACK: usize = 256 << 20;

/// How often a rendering is looked at.
const SLICE: Duration = Duration::from_millis(25);

/// The time that a rendering may compute.
const MOST_TIME: Duration = Duration::from_secs(5);

/// The time after which memory counts. Most renderings end long before: what other threads of the process take meanwhile is not
/// held against them.
const TIME_FREE: Duration = Duration::from_millis(200);

/// The memory that the process may gain meanwhile, in bytes.
const MOST_MEMORY: u64 = 256 << 20;

/// Bytes of a file in `/proc` that are read.
const LONGEST_STAT: u64 = 4 << 10;

/// A tick of the processor times in `/proc`.
const TICK: Duration = Duration::from_millis(10);

/// Threads that wait for the next rendering, at most.
const MOST_IDLE: usize = 8;

/// Looks before a thread sleeps: renderings follow each other closely while rows are read, and waking a thread takes longer than
/// most of them.
const LOOKS: u32 = 2_000;

type Job = Box<dyn FnOnce() + Send>;

/// The next message, for which it looks a while; none after [`LOOKS`] or where nobody can send any more.
fn soon<T>(inbox: &Receiver<T>) -> Option<T> {
    for _ in 0..LOOKS {
        match inbox.try_recv() {
            Ok(message) => return Some(message),
            Err(TryRecvError::Empty) => std::hint::spin_loop(),
            Err(TryRecvError::Disconnected) => return None,
        }
    }
    None
}

/// The next message; none where nobody can send any more.
fn next<T>(inbox: &Receiver<T>) -> Option<T> {
    soon(inbox).or_else(|| inbox.recv().ok())
}

/// A thread that renders one text after another, and ends when this value goes.
#[derive(Debug)]
struct Renderer {
    jobs: Sender<Job>,
    /// The thread's folder below `/proc`, where there is one.
    place: Option<PathBuf>,
}

impl Renderer {
    fn start() -> Result<Self, Error> {
        let (jobs, asked) = channel::<Job>();
        let (say_where, place) = channel();
        let failed = |e: io::Error| threads::refused("the chat template", STACK, &e);
        threads::room(STACK).map_err(failed)?;
        let thread = std::thread::Builder::new().name("template".into()).stack_size(STACK);
        let started = thread.spawn(move || {
            let _ = say_where.send(std::fs::read_link("/proc/thread-self").ok());
            while let Some(job) = next(&asked) {
                job();
            }
        });
        started.map_err(failed)?;
        Ok(Self { jobs, place: place.recv().ok().flatten() })
    }
}

/// The threads that wait for a rendering, of all templates: a model that is opened again takes no other stack.
static IDLE: Mutex<Vec<Renderer>> = Mutex::new(Vec::new());

fn idle() -> MutexGuard<'static, Vec<Renderer>> {
    IDLE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether a template may be used.
#[derive(Debug, Default)]
pub(super) struct TemplateGuard {
    stuck: OnceLock<String>,
}

impl TemplateGuard {
    /// Why the template may not be used any more.
    pub(super) fn stuck(&self) -> Option<&str> {
        self.stuck.get().map(String::as_str)
    }

    /// What `work` returns, run in one of the threads for templates.
    ///
    /// # Errors
    /// When it does not end in time, takes too much memory, panics, or did so before; when there is no thread for it. `model` is
    /// for messages.
    pub(super) fn run<T: Send + 'static>(
        &self,
        model: &str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        let refused = |why: String| Error::Template { model: model.to_owned(), why };
        if let Some(why) = self.stuck() {
            return Err(refused(why.to_owned()));
        }
        let waiting = idle().pop();
        let renderer = waiting.map_or_else(Renderer::start, Ok)?;
        let (send, receive) = channel();
        // Nobody waits any more if it took too long; and a thread that is gone answers nothing.
        let _ = renderer.jobs.send(Box::new(move || drop(send.send(work()))));
        let now = || (renderer.place.as_deref().and_then(time_of), own_memory());
        // Both as they were when it was looked at first: most renderings end before.
        let mut before = None;
        let mut waited = Duration::ZERO;
        loop {
            match soon(&receive).map_or_else(|| receive.recv_timeout(SLICE), Ok) {
                Ok(done) => {
                    let mut waiting = idle();
                    if waiting.len() < MOST_IDLE {
                        waiting.push(renderer);
                    }
                    return Ok(done);
                }
                Err(RecvTimeoutError::Disconnected) => return Err(refused("the engine failed on it".into())),
                Err(RecvTimeoutError::Timeout) => waited += SLICE,
            }
            let (time, memory) = now();
            let (time_before, memory_before) = *before.get_or_insert((time, memory));
            let computed = time.zip(time_before).map_or(waited, |(now, before)| now.saturating_sub(before));
            let added = memory.zip(memory_before).map_or(0, |(now, before)| now.saturating_sub(before));
            let why = match () {
                () if computed >= MOST_TIME => format!("its text is not ready after {} s", MOST_TIME.as_secs()),
                () if computed >= TIME_FREE && added > MOST_MEMORY => {
                    format!("its text takes more than {} MiB of memory", MOST_MEMORY >> 20)
                }
                () => continue,
            };
            let _ = self.stuck.set(why.clone());
            return Err(refused(why));
        }
    }
}

/// The processor time of a thread, from its folder below `/proc`; none where the system does not say.
fn time_of(thread: &Path) -> Option<Duration> {
    let stat = foreign::read_text(&Path::new("/proc").join(thread).join("stat"), LONGEST_STAT).ok()?;
    // Behind the name, which may hold anything, the times in user and kernel mode are fields 12 and 13.
    let fields: Vec<u32> =
        stat.rsplit(')').next()?.split_whitespace().skip(11).take(2).map_while(|t| t.parse().ok()).collect();
    let [user, kernel] = fields[..] else { return None };
    Some(TICK * user.saturating_add(kernel))
}

/// The memory of this process that no file backs, in bytes; none where the system does not say.
fn own_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let kib = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?.trim().trim_end_matches("kB");
    Some(kib.trim().parse::<u64>().ok()? << 10)
}

#[cfg(test)]
mod tests {
    use super::super::special_tokens::SpecialTokens;
    use super::super::template::Template;
    use crate::domain::Message;

    fn rendered(source: &str) -> Result<usize, String> {
        let template = Template::new(source, "m", &SpecialTokens::default()).map_err(|e| e.to_string())?;
        let text = template.render(&[Message::new("user", "Hi")], true).map_err(|e| e.to_string())?;
        Ok(text.len())
    }

    /// Whether it says so, or that memory ran out: tests beside this one take memory of the same process.
    fn meets(why: &str, said: &str) -> bool {
        why.contains(said) || why.contains("MiB of memory")
    }

    /// A template that does `step` many times with a list or text `ns.s`.
    fn repeated(start: &str, step: &str, times: usize, end: &str) -> String {
        format!(
            "{{% set ns = namespace(s={start}) %}}{{% for i in range({times}) %}}{{% set ns.s = {step} %}}{{% endfor %}}{{{{ {end} }}}}"
        )
    }

    #[test]
    fn a_hostile_template_is_one_sentence_soon() {
        let nested = |open: &str, inner: &str, close: &str| {
            let n = super::super::template::LONGEST_SOURCE / (open.len() + close.len()) - 10;
            format!("{{{{ {}{inner}{} }}}}", open.repeat(n), close.repeat(n))
        };
        for (source, said) in [
            ("{{ 'x' * 100000000 }}".to_owned(), "longer than the limit of 64 MiB"),
            // Too large, or too much to compute: whichever limit comes first.
            ("{{ ('x' * 1000000) * 1000000 }}".into(), "too "),
            (repeated("'x'", "ns.s ~ ns.s", 60, "ns.s"), "computes too much"),
            (repeated("'x'", "[ns.s, ns.s] | join", 60, "ns.s"), "computes too much"),
            (repeated("'x'", "ns.s.replace('x', 'xx')", 60, "ns.s"), "computes too much"),
            (repeated("[]", "[ns.s]", 99_000, "ns.s"), "nested more than 100 levels"),
            (repeated("[]", "[ns.s]", 99_000, "ns.s | tojson"), "nested more than 100 levels"),
            (repeated("['x' * 1000]", "[ns.s, ns.s, ns.s, ns.s]", 30, "ns.s"), "longer than the limit of 64 MiB"),
            (
                repeated("['x' * 1000]", "[ns.s, ns.s, ns.s, ns.s]", 30, "ns.s | tojson"),
                "longer than the limit of 64 MiB",
            ),
            (nested("[", "", "]"), "recursion limits"),
            (format!("{}{}", "{% if 1 %}".repeat(9_000), "{% endif %}".repeat(9_000)), "recursion limits"),
            ("{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}".into(), "recursion limit"),
            ("{% for x in [[1]] recursive %}{{ loop([[1]]) }}{% endfor %}".into(), "recursion limit"),
            (
                "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}".into(),
                "computes too much",
            ),
            ("{{ strftime_now('%Y' * 10000000) }}".into(), "longer than 256 bytes"),
            ("{{ raise_exception('x' * 1000000) }}".into(), "…"),
            (" ".repeat(300_000), "it has 292 KiB, more than the limit of 256 KiB"),
        ] {
            let shown: String = source.chars().take(80).collect();
            let why = rendered(&source).expect_err(&shown);
            assert!(meets(&why, said) && why.len() < 3000 && !why.contains('\n'), "{shown}: {why}");
        }
        // As deep as a source can be, without an end of the stack.
        for (open, inner, close) in
            [("not ", "1", ""), ("-", "1", ""), ("", "1", "+1"), ("", "a", ".b"), ("", "1", "|string")]
        {
            let _ = rendered(&nested(open, inner, close));
        }
        // Nested values that are only dropped.
        assert_eq!(rendered(&repeated("[]", "[ns.s]", 99_000, "ns.s | length")), Ok(1));
    }

    #[test]
    fn a_rendering_that_does_not_end_is_left_behind_and_never_tried_again() {
        // Joined lists cost the engine no fuel: comparing these takes longer than anybody waits.
        let source = "{% set a = namespace(s=[1]) %}{% set b = namespace(s=[1]) %}{% for i in range(31) %}\
                      {% set a.s = [a.s, a.s] %}{% set b.s = [b.s, b.s] %}{% endfor %}{{ a.s == b.s }}";
        let template = Template::new(source, "m", &SpecialTokens::default()).unwrap();
        let render = || template.render(&[Message::new("user", "Hi")], true).unwrap_err().to_string();
        let first = render();
        assert!(meets(&first, "its text is not ready after 5 s"), "{first}");
        assert_eq!(render(), first);
        assert!(template.check().is_err());
    }
}
