//! How a sampling run's answers ended: cut at the limit of tokens, or inside a thought.
//!
//! Owns the counts and the sentence. Refuses to drop such answers: they are shown, and training leaves out or masks what a model
//! did not end.

use crate::domain::{Completion, Finding, Finish, Severity, counted, ends_inside_thought};

/// Answers that the model did not end.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct UnendedAnswers {
    /// Whether there are answers of an earlier worker, which are not counted.
    resumed: bool,
    /// All answers.
    all: usize,
    /// Those cut at the limit of tokens.
    cut: usize,
    /// Those that end inside a thought.
    in_thought: usize,
}

impl UnendedAnswers {
    /// Counts from now on; `resumed`: an earlier worker had answers.
    pub(super) fn since(resumed: bool) -> Self {
        Self { resumed, ..Self::default() }
    }

    /// Since when answers are counted, behind what is said of them; empty where it is all of them.
    pub(super) fn when(&self) -> &'static str {
        if self.resumed { ", counted since the run was resumed" } else { "" }
    }

    /// Counts an answer. `opened`: the template opens a thought in front of it.
    pub(super) fn count(&mut self, answer: &Completion, opened: bool) {
        self.all += 1;
        self.cut += usize::from(answer.finish == Finish::Length);
        self.in_thought += usize::from(ends_inside_thought(&answer.text, opened));
    }

    /// What there is to say of them; none where every answer ended.
    pub(super) fn finding(&self, step: u64) -> Option<Finding> {
        if self.cut + self.in_thought == 0 {
            return None;
        }
        let mut parts = Vec::new();
        if self.cut > 0 {
            parts.push(format!("{} of {} cut at max_new_tokens", self.cut, counted(self.all, "answer")));
        }
        if self.in_thought > 0 {
            let of = if self.cut > 0 { String::new() } else { format!(" of {}", counted(self.all, "answer")) };
            parts.push(format!("{}{of} inside a thought: no answers to train on", self.in_thought));
        }
        Some(Finding {
            rule: "answers_cut".into(),
            step,
            severity: Severity::Warn,
            text: format!("{}{}.", parts.join("; "), self.when()),
            remedy: "Sample with more max_new_tokens.".into(),
            pair: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{CompletionId, LogProb, PromptId};

    #[test]
    fn what_was_cut_and_what_ends_inside_a_thought_is_one_sentence() {
        let answer = |text: &str, finish| Completion {
            id: CompletionId::new("a"),
            prompt: PromptId::new("p"),
            model: "".into(),
            text: text.into(),
            tokens: 1,
            finish,
            sampler: None,
            logprob: LogProb::UNKNOWN,
            turns: [].into(),
        };
        let said = |answers: &[(&str, Finish, bool)]| {
            let mut all = UnendedAnswers::default();
            for (text, finish, opened) in answers {
                all.count(&answer(text, *finish), *opened);
            }
            all.finding(3).map(|finding| finding.text)
        };
        assert_eq!(said(&[("Yes.", Finish::Eos, false)]), None);
        assert_eq!(
            said(&[("Yes", Finish::Length, false), ("No.", Finish::Eos, false)]).unwrap(),
            "1 of 2 answers cut at max_new_tokens."
        );
        assert_eq!(
            said(&[("<think>\nhm", Finish::Length, false), ("hm", Finish::Length, true)]).unwrap(),
            "2 of 2 answers cut at max_new_tokens; 2 inside a thought: no answers to train on."
        );
        let mut later = UnendedAnswers::since(true);
        later.count(&answer("Yes", Finish::Length), false);
        assert_eq!(
            later.finding(3).unwrap().text,
            "1 of 1 answer cut at max_new_tokens, counted since the run was resumed."
        );
        assert_eq!(
            said(&[("hm", Finish::Eos, true)]).unwrap(),
            "1 of 1 answer inside a thought: no answers to train on."
        );
    }
}
