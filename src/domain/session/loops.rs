//! The loops that were planned in a session. Owns their order; refuses to know how far they are.

use super::super::loop_spec::LoopSpec;
use super::Session;

impl Session {
    /// Adds a loop; an earlier one of that name stays.
    pub fn plan_loop(&mut self, spec: LoopSpec) {
        if self.planned_loop(&spec.name).is_none() {
            self.loops.push(spec);
        }
    }

    /// The planned loops, oldest first.
    #[must_use]
    pub fn loops(&self) -> &[LoopSpec] {
        &self.loops
    }

    /// The loop of that name.
    #[must_use]
    pub fn planned_loop(&self, name: &str) -> Option<&LoopSpec> {
        self.loops.iter().find(|spec| spec.name == name)
    }
}
