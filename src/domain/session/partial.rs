//! Verdicts that were given before both answers had ended, and what became of them.
//!
//! Owns the binding of such a verdict to the finished answers by their content. A verdict on a text that the answer did not
//! end with stays in the log and counts for nothing: the pair is asked again.

use super::super::ids::PairId;
use super::super::partial::{PartialCounts, PartialFate};
use super::super::verdict::Verdict;
use super::Session;

impl Session {
    /// What became of the answers of a verdict that was given before both had ended; none of another verdict.
    #[must_use]
    pub fn partial_fate(&self, verdict: &Verdict) -> Option<PartialFate> {
        let view = verdict.showing.partial.as_ref()?;
        Some(match self.pair(&verdict.pair).and_then(|pair| self.sides(pair)) {
            None => PartialFate::Missing,
            Some((a, b)) if view.a.fits(&a.text) && view.b.fits(&b.text) => PartialFate::Bound,
            Some(_) => PartialFate::Differs,
        })
    }

    /// Whether a verdict was given on another text than its pair holds.
    pub(super) fn differs(&self, verdict: &Verdict) -> bool {
        verdict.showing.partial.is_some() && self.partial_fate(verdict) == Some(PartialFate::Differs)
    }

    /// The verdicts that were given before both answers had ended, undone ones aside.
    #[must_use]
    pub fn partial_counts(&self) -> PartialCounts {
        let mut out = PartialCounts::default();
        for (_, judged) in self.verdicts().filter(|(_, judged)| !judged.undone) {
            let fate = self.partial_fate(judged.verdict).filter(|_| judged.verdict.is_partial());
            out.given += usize::from(fate.is_some());
            out.differs += usize::from(fate == Some(PartialFate::Differs));
            out.missing += usize::from(fate == Some(PartialFate::Missing));
        }
        out
    }

    /// How many of these pairs are labelled by a counting verdict that was given before both answers had ended.
    #[must_use]
    pub fn partial_among<'a>(&self, pairs: impl Iterator<Item = &'a PairId>) -> usize {
        pairs
            .filter(|id| self.verdicts_on(id).any(|j| !j.undone && j.verdict.is_partial() && !self.differs(j.verdict)))
            .count()
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::ids::{CompletionId, PairId, PromptId, Rater};
    use super::super::super::log_prob::LogProb;
    use super::super::super::partial::{PartialView, ShownPart};
    use super::super::super::text::{Completion, Finish, Pair, Prompt, PromptBody};
    use super::super::super::verdict::{Asked, Choice, Seen, Showing, Side, Strength};
    use super::*;

    fn session(texts: [&str; 2]) -> Session {
        let mut session = with_prompt();
        arrive(&mut session, texts);
        session
    }

    fn with_prompt() -> Session {
        let mut session = Session::default();
        let body = PromptBody::Text("Why?".into());
        let id = PromptId::new("p1");
        session.add_prompt(Prompt { id, body, source: "test".into(), tags: [].into() });
        session
    }

    fn arrive(session: &mut Session, texts: [&str; 2]) {
        let ids = [0, 1].map(|k| CompletionId::new(format!("sample-1.p1.{k}")));
        for (id, text) in ids.iter().zip(texts) {
            session.add_completion(Completion {
                turns: [].into(),
                id: id.clone(),
                prompt: PromptId::new("p1"),
                model: "m".into(),
                text: text.into(),
                tokens: 3,
                finish: Finish::Eos,
                sampler: None,
                logprob: LogProb::UNKNOWN,
            });
        }
        let [a, b] = ids;
        let (id, prompt) = (PairId::new("p1:sample-1.0-1"), PromptId::new("p1"));
        session.add_pair(Pair { id, prompt, a, b, strategy: "random".into(), p_select: 1.0 });
    }

    fn verdict(shown: [&str; 2], ended: [bool; 2]) -> Verdict {
        let part = |i: usize| ShownPart::of(shown[i], ended[i]);
        Verdict {
            pair: PairId::new("p1:sample-1.0-1"),
            rater: Rater::new("ana"),
            choice: Choice::Prefer(Side::B, Strength::Better),
            left: Side::A,
            seen: Seen::Partial,
            ms: 900,
            winner_hash: None,
            asked: Asked::default(),
            showing: Showing { partial: Some(PartialView { a: part(0), b: part(1) }.into()), ..Showing::default() },
        }
    }

    #[test]
    fn a_partial_verdict_counts_for_the_answers_that_begin_with_what_was_shown() {
        let mut s = session(["one two", "three four"]);
        s.judge(1, verdict(["one", "three"], [false; 2]));
        let (rows, _) = s.rows();
        assert_eq!((rows.len(), rows[0].chosen.as_str()), (1, "three four"));
        assert_eq!(s.partial_counts(), PartialCounts { given: 1, differs: 0, missing: 0 });
        assert!(s.queue(&Rater::new("ana")).is_empty());
        assert_eq!(s.partial_among(s.pairs().iter().map(|p| &p.id)), 1);
    }

    #[test]
    fn a_verdict_on_another_text_is_kept_counts_for_nothing_and_the_pair_is_asked_again() {
        let mut s = session(["one two", "three four"]);
        s.judge(1, verdict(["one", "thirty"], [false; 2]));
        assert_eq!(s.verdicts().count(), 1);
        assert_eq!(s.partial_counts(), PartialCounts { given: 1, differs: 1, missing: 0 });
        assert!(s.rows().0.is_empty() && s.counting(&PairId::new("p1:sample-1.0-1")).is_empty());
        assert_eq!(s.queue(&Rater::new("ana")).len(), 1);
        // An answer that had ended is bound to its end.
        let mut s = session(["one two", "three four"]);
        s.judge(1, verdict(["one", "three"], [true, false]));
        assert_eq!(s.partial_counts().differs, 1);
    }

    #[test]
    fn the_order_of_verdict_and_answers_does_not_matter_and_a_pair_may_never_come() {
        let mut s = with_prompt();
        s.judge(1, verdict(["one", "three"], [false; 2]));
        assert_eq!(s.partial_counts(), PartialCounts { given: 1, differs: 0, missing: 1 });
        assert_eq!(s.partial_fate(s.verdict_at(1).unwrap()), Some(PartialFate::Missing));
        arrive(&mut s, ["one two", "three four"]);
        assert_eq!(s.partial_counts(), PartialCounts { given: 1, differs: 0, missing: 0 });
        assert_eq!(s.rows().0.len(), 1);
        s.undo(1);
        assert!(s.partial_counts().is_empty() && s.rows().0.is_empty());
        s.redo(1);
        assert_eq!(s.partial_counts().given, 1);
    }

    #[test]
    fn a_verdict_after_both_ended_is_bound_and_not_partial() {
        let mut s = session(["one two", "three four"]);
        s.judge(1, verdict(["one two", "three four"], [true; 2]));
        assert!(s.partial_counts().is_empty() && s.rows().0.len() == 1);
        let fate = s.partial_fate(s.verdict_at(1).unwrap());
        assert_eq!(fate, Some(PartialFate::Bound));
    }

    #[test]
    fn an_old_record_has_no_view_and_a_new_one_survives_the_log() {
        let new = verdict(["one", "three"], [true, false]);
        let json = serde_json::to_value(&new).unwrap();
        assert_eq!(json["partial"]["a"]["chars"], 3);
        assert_eq!(serde_json::from_value::<Verdict>(json.clone()).unwrap(), new);
        let mut old = json;
        old.as_object_mut().unwrap().remove("partial");
        let read: Verdict = serde_json::from_value(old.clone()).unwrap();
        assert!(read.showing.partial.is_none() && serde_json::to_value(&read).unwrap() == old);
    }
}
