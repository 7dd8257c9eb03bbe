//! DPO: −log σ(β·[(log π(c) − log ρ(c)) − (log π(r) − log ρ(r))]), log-probs summed over the answers' tokens.
//!
//! Rafailov et al. 2023, "Direct Preference Optimization: Your Language Model is Secretly a Reward Model". `loss_type` lists
//! the forms of [`DpoForm`] to sum, `loss_weights` their weights; `label_smoothing`, `f_divergence_type`, `ld_alpha` and
//! `use_weighting` (WPO) modify them. The method refuses an option that no listed form uses, by the table of forms.
//! Differs from TRL 1.16: label smoothing acts on `sigmoid` and `sigmoid_norm` (TRL has dropped it there), `ipo_sum` and
//! `dpop` exist, pairs longer than `max_length` are left out instead of truncated, and a step's metrics are weighted by pairs
//! and tokens, not by micro-batches. It also logs `kl/chosen`.

use super::contract::{
    BatchLoss, HealthHints, LossAtReference, Recipe, Registered, ScoredExample, Separable, UpdateWindow,
    pair_token_metrics, read,
};
use crate::domain::{
    Condition, Dependency, Hyperparameters, Method, Needs, ParamError, ParamKind, ParamRow, Params, SOFT_LABELS,
    choices, hyperparameters, row,
};
use crate::model::error::Error;
use crate::train::loss::{Divergence, Dpo, DpoForm, DpoPair, DpoTerm, FORMS, FormulaValues, NAMES, Tally};

/// The registry's row.
pub(super) const DPO: Registered = Registered {
    method: METHOD,
    new: |params| {
        let p: DpoParams = read(params)?;
        let dpo = p.loss(params).map_err(|e| Error::Invalid(e.to_string()))?;
        Ok(Box::new(DpoRecipe { dpo, soft: p.soft_labels }))
    },
};

/// The method table's row.
const METHOD: Method = Method {
    name: "dpo",
    title: "Direct preference optimisation",
    help: "prefer chosen over rejected, regularised towards the reference model",
    needs: Needs::Pairs,
    reference: true,
    probes: true,
    mixes: true,
    without: &[],
    own,
    defaults: &[("learning_rate", "1e-5", "LoRA 1e-6 – 2e-5, full 1e-7 – 2e-6")],
    dependencies,
    refuse,
    objective,
};

choices! {
    /// The f-divergence to the reference.
    enum DivergenceKind {
        /// Plain DPO.
        ReverseKl = "reverse_kl",
        /// Mass-covering.
        ForwardKl = "forward_kl",
        /// Jensen–Shannon.
        JsDivergence = "js_divergence",
        /// Between forward and reverse KL, by its coefficient.
        AlphaDivergence = "alpha_divergence",
    }
}

hyperparameters! {
    /// Hyper-parameters of DPO, except those of single forms.
    struct DpoParams {
        beta: f64 = row(
            ParamKind::Float(1e-6, 1000.0),
            "0.1",
            "0.01 – 0.5; sigmoid_norm 5",
            "strength of the KL regularisation towards the reference",
            true,
        );
        loss_type: Vec<String> = row(
            ParamKind::List(NAMES),
            "sigmoid",
            "sigmoid; sigmoid,sft",
            "loss on the margin; comma-separated losses are summed",
            true,
        );
        loss_weights: Vec<f64> = row(
            ParamKind::Floats(0.0, 1e6),
            "1",
            "1; 1,0.2",
            "weight of each loss_type, comma-separated; one value applies to all",
            false,
        );
        label_smoothing: f64 = row(
            ParamKind::Float(0.0, 0.499),
            "0",
            "0 – 0.2; exo_pair 0.001",
            "assumed share of wrong labels (sigmoid: cDPO)",
            false,
        );
        f_divergence_type: DivergenceKind = row(
            ParamKind::Choice(DivergenceKind::WORDS),
            "reverse_kl",
            "",
            "f-divergence to the reference model",
            false,
        );
        f_alpha_divergence_coef: f64 = row(
            ParamKind::Float(0.0, 10.0),
            "0.5",
            "0.1 – 0.9",
            "alpha of the alpha-divergence; 0: forward KL, 1: reverse KL",
            false,
        );
        ld_alpha: f64 = row(
            ParamKind::Float(0.0, 1.0),
            "1",
            "0 – 1",
            "weight of tokens beyond the shorter answer's length; below 1 counters verbosity (LD-DPO)",
            false,
        );
        soft_labels: bool = SOFT_LABELS;
        use_weighting: bool = row(
            ParamKind::Bool,
            "false",
            "",
            "weight pairs by the policy's probability of both answers (WPO)",
            false,
        );
    }
}

impl DpoParams {
    /// The forms of `loss_type`.
    fn forms(&self) -> impl Iterator<Item = &'static DpoForm> {
        self.loss_type.iter().filter_map(|name| DpoForm::named(name))
    }

    /// The terms of the sum; a form's own hyper-parameter comes from `params`.
    fn terms(&self, params: &Params) -> Result<Vec<DpoTerm>, ParamError> {
        let mut out = Vec::new();
        for (i, form) in self.forms().enumerate() {
            let own = match &form.own {
                Some(row) => crate::domain::read(params, row, row.default)?,
                None => 0.0,
            };
            let weight = self.loss_weights.get(i).or(self.loss_weights.first()).copied().unwrap_or(1.0);
            out.push(DpoTerm { form, own, weight });
        }
        Ok(out)
    }

    /// The loss of these hyper-parameters. Contradictions are checked by [`METHOD`].
    fn loss(&self, params: &Params) -> Result<Dpo, ParamError> {
        let divergence = match self.f_divergence_type {
            DivergenceKind::ReverseKl => Divergence::ReverseKl,
            DivergenceKind::ForwardKl => Divergence::ForwardKl,
            DivergenceKind::JsDivergence => Divergence::Js,
            DivergenceKind::AlphaDivergence => Divergence::Alpha(self.f_alpha_divergence_coef),
        };
        Ok(Dpo {
            beta: self.beta,
            terms: self.terms(params)?,
            label_smoothing: self.label_smoothing,
            divergence,
            ld_alpha: self.ld_alpha,
            wpo: self.use_weighting,
        })
    }
}

/// Hyper-parameters of single forms.
fn form_rows() -> impl Iterator<Item = ParamRow> {
    FORMS.iter().filter_map(|form| form.own)
}

/// All hyper-parameters; those of single forms come after the divergence's.
fn own() -> Vec<ParamRow> {
    let mut rows = DpoParams::rows();
    let at = rows.iter().position(|row| row.key == "ld_alpha").unwrap_or(rows.len());
    rows.splice(at..at, form_rows());
    rows
}

fn dependencies() -> Vec<Dependency> {
    let mut out = vec![
        Dependency {
            keys: &["label_smoothing", "soft_labels"],
            condition: Condition::AnyItem(|name| DpoForm::named(name).is_some_and(|form| form.smoothing)),
            on: "loss_type",
            remedy: "set loss_type=sigmoid".into(),
        },
        Dependency {
            keys: &["f_alpha_divergence_coef"],
            condition: Condition::Includes("alpha_divergence"),
            on: "f_divergence_type",
            remedy: "set f_divergence_type=alpha_divergence".into(),
        },
    ];
    for form in FORMS {
        if let Some(own) = &form.own {
            let keys = std::slice::from_ref(&own.key);
            let remedy = format!("set loss_type={}", form.name).into();
            out.push(Dependency { keys, condition: Condition::Includes(form.name), on: "loss_type", remedy });
        }
    }
    out
}

fn refuse(params: &Params) -> Option<String> {
    DpoParams::refused(params, |p| {
        let list = p.loss_type.join(",");
        let names = || p.loss_type.iter().enumerate();
        if let Some((_, twice)) = names().find(|(i, name)| p.loss_type[..*i].contains(name)) {
            return Some(format!(
                "loss_type={list} lists {twice} twice; list it once and set its weight in loss_weights"
            ));
        }
        let forms: Vec<&DpoForm> = p.forms().collect();
        if let Some(alone) = forms.first().filter(|_| forms.iter().all(|form| form.is_sft())) {
            return Some(format!(
                "loss_type={0} alone learns no preference; add another loss (loss_type=sigmoid,{0}) or use the method sft",
                alone.name
            ));
        }
        let weights = p.loss_weights.len();
        if weights > 1 && weights != forms.len() {
            return Some(format!(
                "loss_weights has {weights} values but loss_type={list} has {} losses; set one value per loss or one for all",
                forms.len()
            ));
        }
        if let Some(sentence) = forms.iter().find_map(|form| (form.refuse)(p.label_smoothing, p.soft_labels)) {
            return Some(sentence.into());
        }
        if p.f_divergence_type != DivergenceKind::ReverseKl
            && let Some(form) = forms.iter().find(|form| !form.divergence)
        {
            return Some(format!(
                "loss_type={} is only defined for f_divergence_type=reverse_kl; set that, or use another loss",
                form.name
            ));
        }
        let sorting = forms.iter().find(|form| p.use_weighting && form.sorts_batch())?;
        Some(format!(
            "use_weighting weights single pairs, but loss_type={} sorts the batch; set it to false or use another loss",
            sorting.name
        ))
    })
}

/// log π(c) − log π_ref(c), the chosen answer's log-ratio.
const A: &str = "log π(c) − log π_ref(c)";
/// The rejected answer's log-ratio.
const B: &str = "log π(r) − log π_ref(r)";

fn objective(params: &Params) -> String {
    let read = DpoParams::read(params).and_then(|p| Ok((p.terms(params)?, p)));
    let (terms, p) = match read {
        Ok(read) => read,
        Err(e) => return e.to_string(),
    };
    let mut sum = Vec::new();
    for term in terms {
        let form = term.form;
        let text = (form.formula)(&FormulaValues { beta: p.beta, epsilon: p.label_smoothing, own: term.own });
        let mut factors = Vec::new();
        if p.use_weighting && !form.is_sft() {
            factors.push("w".to_owned());
        }
        if term.weight != 1.0 {
            factors.push(term.weight.to_string());
        }
        if factors.is_empty() {
            sum.push(text);
        } else if form.is_product {
            sum.push(format!("{}·{text}", factors.join("·")));
        } else {
            sum.push(format!("{}·[{text}]", factors.join("·")));
        }
    }
    let text = sum.join(" + ");
    let meanings = meanings(&text, &p);
    if meanings.is_empty() { text } else { format!("{text},  {}", meanings.join(",  ")) }
}

/// Definitions of the symbols in `text`.
fn meanings(text: &str, p: &DpoParams) -> Vec<String> {
    // A standalone letter, not part of a word.
    let uses = |letter: char| {
        let chars: Vec<char> = text.chars().collect();
        let word = |c: Option<&char>| c.is_some_and(|c| c.is_alphanumeric() && !matches!(c, 'π' | 'σ'));
        chars
            .iter()
            .enumerate()
            .any(|(i, c)| *c == letter && !word(i.checked_sub(1).and_then(|i| chars.get(i))) && !word(chars.get(i + 1)))
    };
    let alpha = p.f_alpha_divergence_coef;
    let score = match p.f_divergence_type {
        DivergenceKind::ForwardKl => Some("f(t) = 1 − e^−t".to_owned()),
        DivergenceKind::JsDivergence => Some("f(t) = log 2 + log σ(t)".to_owned()),
        DivergenceKind::AlphaDivergence => Some(format!("f(t) = (e^(({alpha}−1)·t) − 1)/({alpha}−1)")),
        DivergenceKind::ReverseKl => None,
    };
    let (delta, mean) = (uses('Δ'), uses('D'));
    let mut out = Vec::new();
    let spelled = uses('a') || uses('b') || uses('U') || mean || (delta && score.is_some());
    if delta {
        out.push(match (&score, spelled) {
            (Some(_), _) => "Δ = f(a) − f(b)".to_owned(),
            (None, true) => "Δ = a − b".to_owned(),
            (None, false) => format!("Δ = ({A}) − ({B})"),
        });
    }
    if mean {
        out.push(match &score {
            Some(_) => "D = f(a)/n(c) − f(b)/n(r), n tokens".to_owned(),
            None => "D = a/n(c) − b/n(r), n tokens".to_owned(),
        });
    }
    if delta || mean {
        out.extend(score);
    }
    if uses('R') {
        out.push("R = k-th largest log π(c) − log π(r) minus k-th largest log π_ref(c) − log π_ref(r)".into());
    }
    if uses('U') {
        out.push("U = k-th largest a minus k-th largest b".into());
    }
    if spelled {
        out.push(format!("a = {A},  b = {B}"));
    }
    if p.ld_alpha < 1.0 {
        out.push(format!("tokens beyond the shorter answer's length weighted by {}", p.ld_alpha));
    }
    if p.soft_labels {
        out.push("ε per pair from contrary votes or its rater's inconsistency".into());
    }
    if p.use_weighting {
        out.push("w = product over c and r of exp(mean log π − log Σπ²)".into());
    }
    out
}

/// The recipe.
struct DpoRecipe {
    dpo: Dpo,
    soft: bool,
}

impl Recipe for DpoRecipe {
    fn needs_reference(&self) -> bool {
        true
    }

    fn at_reference(&self) -> Option<LossAtReference> {
        self.dpo.loss_at_reference().map(|loss| LossAtReference { loss, beta: self.dpo.beta })
    }

    fn health(&self) -> HealthHints {
        let sigmoid =
            self.dpo.label_smoothing == 0.0 && self.dpo.terms.iter().map(|term| term.form.name).eq(["sigmoid"]);
        HealthHints { beta: self.dpo.beta, sigmoid, ..HealthHints::default() }
    }

    fn separable(&self) -> Separable {
        // Ranked forms sort the micro-batch, and `sft` divides by its tokens.
        let of_batch = |term: &DpoTerm| term.form.sorts_batch() || term.form.is_sft();
        if self.dpo.terms.iter().any(of_batch) { Separable::No } else { Separable::Mean }
    }

    fn loss(&self, batch: &[ScoredExample<'_>], window: &UpdateWindow, tally: &mut Tally) -> Result<BatchLoss, Error> {
        let mut pairs = Vec::with_capacity(batch.len());
        for pair in batch {
            let ((chosen, rejected), reference) = (pair.pair_scores()?, pair.reference_logps()?);
            pairs.push(DpoPair {
                chosen: &chosen.logp,
                rejected: &rejected.logp,
                ref_chosen: &reference[0],
                ref_rejected: &reference[1],
                collision_chosen: &chosen.collision,
                collision_rejected: &rejected.collision,
                epsilon: pair.example.agreed.filter(|_| self.soft).map(|agreed| 1.0 - agreed),
            });
        }
        let out = self.dpo.loss(&pairs, tally);
        pair_token_metrics(batch, tally);
        Ok(BatchLoss::from_pairs(out, window))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::method;

    fn with(settings: &[(&str, &str)]) -> Dpo {
        let rows = method("dpo").unwrap().rows();
        let mut params = Params::defaults(&rows);
        for (key, value) in settings {
            params.set(&rows, "dpo", key, value).unwrap();
        }
        read::<DpoParams>(&params).unwrap().loss(&params).unwrap()
    }

    fn term(name: &str, own: f64, weight: f64) -> DpoTerm {
        DpoTerm { form: DpoForm::named(name).unwrap(), own, weight }
    }

    fn plain(dpo: &Dpo) -> Vec<(&'static str, f64)> {
        dpo.terms.iter().map(|term| (term.form.name, term.weight)).collect()
    }

    #[test]
    fn defaults_are_plain_dpo() {
        let dpo = with(&[]);
        assert_eq!(plain(&dpo), [("sigmoid", 1.0)]);
        assert_eq!(dpo, Dpo { terms: dpo.terms.clone(), ..Dpo::new(0.1, term("sigmoid", 0.0, 1.0)) });
    }

    #[test]
    fn a_run_from_before_an_option_existed_has_its_default() {
        let old = [("beta", "0.2"), ("loss_type", "discopop"), ("label_smoothing", "0")];
        let params = Params(old.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect());
        let dpo = read::<DpoParams>(&params).unwrap().loss(&params).unwrap();
        assert_eq!(dpo, Dpo::new(0.2, term("discopop", 0.05, 1.0)));
    }

    #[test]
    fn every_option_reaches_the_loss() {
        let dpo = with(&[
            ("loss_type", "discopop,dpop"),
            ("loss_weights", "0.8,0.2"),
            ("discopop_tau", "0.1"),
            ("dpop_lambda", "5"),
            ("f_divergence_type", "alpha_divergence"),
            ("f_alpha_divergence_coef", "0.3"),
            ("ld_alpha", "0.5"),
            ("use_weighting", "true"),
            ("label_smoothing", "0.2"),
        ]);
        let want = Dpo {
            beta: 0.1,
            terms: vec![term("discopop", 0.1, 0.8), term("dpop", 5.0, 0.2)],
            label_smoothing: 0.2,
            divergence: Divergence::Alpha(0.3),
            ld_alpha: 0.5,
            wpo: true,
        };
        assert_eq!(dpo, want);
        let dpo = with(&[("loss_type", "sigmoid,hinge"), ("loss_weights", "0.5")]);
        assert_eq!(plain(&dpo), [("sigmoid", 0.5), ("hinge", 0.5)]);
    }

    /// An option is refused exactly where a form does not use it.
    #[test]
    fn options_are_refused_where_a_form_does_not_use_them() {
        let dpo = method("dpo").unwrap();
        for form in FORMS.iter().filter(|form| !form.is_sft()) {
            let name = form.name;
            let refused = |settings: &[(&str, &str)]| {
                let mut params = Params::defaults(&dpo.rows());
                for (key, value) in [&[("loss_type", name)], settings].concat() {
                    params.set(&dpo.rows(), "dpo", key, value).unwrap();
                }
                dpo.contradiction(&params).is_some()
            };
            assert_eq!(refused(&[("label_smoothing", "0.1")]), !form.smoothing, "{name}");
            let smoothing: &[(&str, &str)] = if form.smoothing { &[("label_smoothing", "0.1")] } else { &[] };
            let with = |more: (&'static str, &'static str)| refused(&[smoothing, &[more]].concat());
            assert_eq!(with(("soft_labels", "true")), !form.smoothing, "{name}");
            assert_eq!(with(("f_divergence_type", "js_divergence")), !form.divergence, "{name}");
            assert_eq!(with(("use_weighting", "true")), form.sorts_batch(), "{name}");
            for row in form_rows() {
                let used = form.own.is_some_and(|own| own.key == row.key);
                let ParamKind::Float(low, high) = row.kind else { panic!("{} is no number", row.key) };
                let other: &'static str = f64::midpoint(low, high).to_string().leak();
                assert_ne!(row.default, other);
                assert_eq!(with((row.key, other)), !used, "{name}: {}", row.key);
            }
        }
    }
}
