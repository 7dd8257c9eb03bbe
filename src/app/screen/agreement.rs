//! The agreement screen: how far the raters agree, with each other and with themselves, and the disputed pairs.
//!
//! Owns the selection among the disputes and the request for the figures. Refuses to compute them: the bootstrap takes
//! seconds on a large session, so the shell does it on what is saved. Refuses to say who voted what on a disputed pair.

use crate::app::contract::Screen;
use crate::app::effect::Effect;
use crate::app::goal::{Goal, Next, Show};
use crate::app::key::Code;
use crate::app::keymap::{Section, c, k, on};
use crate::app::msg::Msg;
use crate::app::shared::Shared;
use crate::domain::{AgreementReport, Dispute, QueueOrder};

/// The screen's state.
#[derive(Debug, Clone, Default)]
pub struct AgreementScreen {
    /// The figures, or why there are none; none while they are computed.
    pub report: Option<Result<AgreementReport, String>>,
    /// The disputed pairs, lowest agreement first.
    pub disputes: Vec<Dispute>,
    /// The selected one.
    pub selected: usize,
    /// The first row shown of the figures.
    pub scroll: usize,
    /// Labels given since the figures were computed.
    pub newer: usize,
    ticket: u64,
    labels: usize,
}

/// The actions of its keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AgreementAction {
    /// Decide the selected dispute.
    Adjudicate,
    /// Select the next dispute.
    Next,
    /// Select the previous dispute.
    Previous,
    /// Scroll the figures down.
    ScrollDown,
    /// Scroll the figures up.
    ScrollUp,
    /// Compute the figures again.
    Compute,
    /// Go to another screen of the session.
    Go(&'static str),
}

#[rustfmt::skip]
const KEYS: &[Section<AgreementAction>] = &[Section { title: "agreement", rows: &[
    on(k(Code::Enter), AgreementAction::Adjudicate, "decide, blind", "decide the selected dispute, without names").named("adjudicate"),
    on(c('j'), AgreementAction::Next, "next", "select the next dispute").named("next dispute"),
    on(c('k'), AgreementAction::Previous, "previous", "select the previous dispute").named("previous dispute"),
    on(c('r'), AgreementAction::Compute, "recompute", "compute the figures again, with the labels since"),
    on(k(Code::Down), AgreementAction::Next, "", "select the next dispute"),
    on(k(Code::Up), AgreementAction::Previous, "", "select the previous dispute"),
    on(k(Code::PageDown), AgreementAction::ScrollDown, "", "scroll the figures down").named("scroll figures down"),
    on(k(Code::PageUp), AgreementAction::ScrollUp, "", "scroll the figures up").named("scroll figures up"),
    on(c('t'), AgreementAction::Go("launch"), "", "launch a training run on the verdicts").named("launch"),
    on(k(Code::Esc), AgreementAction::Go("label"), "label", "back to labelling").named("back"),
] }];

/// Rows that a page key scrolls by.
const PAGE: usize = 5;

impl Screen for AgreementScreen {
    type Action = AgreementAction;

    const NAME: &'static str = "agreement";
    const KEYS: &'static [Section<AgreementAction>] = KEYS;

    fn open(shared: &mut Shared, _show: Show) -> (Self, Vec<Effect>) {
        let mut screen = Self::default();
        let effects = screen.compute(shared);
        Screen::refresh(&mut screen, shared);
        (screen, effects)
    }

    fn act(&mut self, shared: &mut Shared, action: AgreementAction) -> Next {
        let last = self.disputes.len().saturating_sub(1);
        match action {
            AgreementAction::Go(screen) => return Next::go(Goal::to(screen)),
            AgreementAction::Adjudicate => return self.adjudicate(shared),
            AgreementAction::Compute => return self.compute(shared).into(),
            AgreementAction::Next => self.selected = (self.selected + 1).min(last),
            AgreementAction::Previous => self.selected = self.selected.saturating_sub(1),
            // The drawing stops at the last row.
            AgreementAction::ScrollDown => self.scroll = (self.scroll + PAGE).min(self.figures()),
            AgreementAction::ScrollUp => self.scroll = self.scroll.saturating_sub(PAGE),
        }
        shared.touch();
        Next::default()
    }

    fn footer_word(&self, _shared: &Shared, action: AgreementAction, word: &'static str) -> Option<&'static str> {
        let disputed = !self.disputes.is_empty();
        let matters = match action {
            AgreementAction::Adjudicate => disputed,
            AgreementAction::Next | AgreementAction::Previous => self.disputes.len() > 1,
            _ => true,
        };
        matters.then_some(word)
    }

    fn refresh(&mut self, shared: &mut Shared) -> Vec<Effect> {
        if let Some(open) = &shared.open {
            self.disputes = open.session.disputes();
            self.selected = self.selected.min(self.disputes.len().saturating_sub(1));
            self.newer = open.session.verdicts().count().saturating_sub(self.labels);
        }
        Vec::new()
    }

    fn on_reply(&mut self, shared: &mut Shared, msg: Msg) -> Vec<Effect> {
        if let Msg::AgreementReady { ticket, answer } = msg
            && ticket == self.ticket
        {
            self.report = Some(answer.map(|report| *report));
            shared.touch();
        }
        Vec::new()
    }
}

impl AgreementScreen {
    fn compute(&mut self, shared: &mut Shared) -> Vec<Effect> {
        let Some(open) = &shared.open else { return Vec::new() };
        self.labels = open.session.verdicts().count();
        self.newer = 0;
        self.ticket += 1;
        self.report = None;
        let session = Box::new(open.session.clone());
        shared.touch();
        vec![Effect::Agreement { ticket: self.ticket, session }]
    }

    /// At least as many as there are rows of figures.
    fn figures(&self) -> usize {
        let Some(Ok(report)) = &self.report else { return 0 };
        report.coefficients.len() + report.by_stratum.len() + report.raters.len() + 8
    }

    /// Shows the selected dispute on the label screen, where the next verdict settles it.
    fn adjudicate(&self, shared: &mut Shared) -> Next {
        let Some(dispute) = self.disputes.get(self.selected) else {
            shared.say("no pair is disputed");
            return Next::default();
        };
        if let Some(open) = &mut shared.open {
            if open.is_blind() {
                open.set_filter(None);
            }
            open.set_order(QueueOrder::Disputed);
            open.finish_queue();
        }
        shared.order = QueueOrder::Disputed;
        Next::go(Goal::with("label", Show::Pairs(vec![dispute.pair.clone()])))
    }
}
