//! The row of DPO: its options and its objective as a formula.

use super::table::{Method, Needs, SOFT_LABELS, Under, row};
use crate::domain::param::{Kind, Params};

/// The values of `loss_type`.
const LOSSES: &[&str] = &[
    "sigmoid",
    "ipo",
    "ipo_sum",
    "hinge",
    "robust",
    "sigmoid_norm",
    "exo_pair",
    "nca_pair",
    "bco_pair",
    "sppo_hard",
    "aot",
    "aot_unpaired",
    "apo_zero",
    "apo_down",
    "discopop",
    "dpop",
    "sft",
];

/// Those that a share of wrong labels enters, of the run or of a pair.
const SMOOTHED: &[&str] = &["sigmoid", "sigmoid_norm", "robust", "exo_pair", "aot", "aot_unpaired"];
/// Those that have a meaning under another divergence than the reverse KL. `sft` compares with no reference, so that any
/// divergence may stand beside it.
const DIVERGENT: &[&str] =
    &["sigmoid", "sigmoid_norm", "robust", "hinge", "ipo", "ipo_sum", "exo_pair", "discopop", "sft"];
/// Those that sort a whole batch.
const SORTING: &[&str] = &["aot", "aot_unpaired"];

/// The row.
pub(super) const METHOD: Method = Method {
    name: "dpo",
    title: "Direct preference optimisation",
    help: "push chosen above rejected, held near the frozen reference",
    needs: Needs::Pairs,
    reference: true,
    probes: true,
    mixes: true,
    without: &[],
    own: &[
        row(
            "beta",
            Kind::Float(1e-6, 1000.0),
            "0.1",
            "0.01 – 0.5; sigmoid_norm 5",
            "how hard to stay near the reference",
            true,
        ),
        row(
            "loss_type",
            Kind::List(LOSSES),
            "sigmoid",
            "sigmoid; sigmoid,sft",
            "shape of the loss over the margin; several between commas add up",
            true,
        ),
        row(
            "loss_weights",
            Kind::Floats(0.0, 1e6),
            "1",
            "1; 1,0.2",
            "weight of each loss_type, between commas; one number weighs all",
            false,
        ),
        row(
            "label_smoothing",
            Kind::Float(0.0, 0.499),
            "0",
            "0 – 0.2; exo_pair 0.001",
            "share of labels taken to be wrong (sigmoid: cDPO)",
            false,
        ),
        row(
            "f_divergence_type",
            Kind::Choice(&["reverse_kl", "forward_kl", "js_divergence", "alpha_divergence"]),
            "reverse_kl",
            "",
            "how the distance to the reference is measured",
            false,
        ),
        row(
            "f_alpha_divergence_coef",
            Kind::Float(0.0, 10.0),
            "0.5",
            "0.1 – 0.9",
            "alpha of the alpha-divergence; 0 is the forward, 1 the reverse KL",
            false,
        ),
        row(
            "discopop_tau",
            Kind::Float(1e-3, 1.0),
            "0.05",
            "0.05",
            "discopop: how sharply it changes from one loss to the other",
            false,
        ),
        row(
            "dpop_lambda",
            Kind::Float(0.0, 1e6),
            "50",
            "5 – 500",
            "dpop: weight of a chosen answer's loss of likelihood",
            false,
        ),
        row(
            "ld_alpha",
            Kind::Float(0.0, 1.0),
            "1",
            "0 – 1",
            "weight of the tokens beyond the shorter answer's length; below 1 against verbosity (LD-DPO)",
            false,
        ),
        SOFT_LABELS,
        row(
            "use_weighting",
            Kind::Bool,
            "false",
            "",
            "weigh pairs by how likely the policy would write both answers (WPO)",
            false,
        ),
    ],
    defaults: &[("learning_rate", "1e-5", "LoRA 1e-6 – 2e-5, full 1e-7 – 2e-6")],
    under: &[
        Under {
            keys: &["label_smoothing", "soft_labels"],
            holds: |p| any_of(p, SMOOTHED),
            of: "loss_type",
            remedy: "take loss_type=sigmoid",
        },
        Under {
            keys: &["discopop_tau"],
            holds: |p| any_of(p, &["discopop"]),
            of: "loss_type",
            remedy: "take loss_type=discopop",
        },
        Under {
            keys: &["dpop_lambda"],
            holds: |p| any_of(p, &["dpop"]),
            of: "loss_type",
            remedy: "take loss_type=dpop",
        },
        Under {
            keys: &["f_alpha_divergence_coef"],
            holds: |p| p.text("f_divergence_type") == "alpha_divergence",
            of: "f_divergence_type",
            remedy: "take f_divergence_type=alpha_divergence",
        },
    ],
    refuse,
    objective,
};

/// Whether one of these losses is asked for. Absent, the loss is the default one.
fn any_of(p: &Params, losses: &[&str]) -> bool {
    p.words("loss_type").any(|loss| losses.contains(&loss))
}

fn refuse(p: &Params) -> Option<String> {
    let names: Vec<&str> = p.words("loss_type").collect();
    let list = p.text("loss_type");
    if let Some(twice) = names.iter().enumerate().find_map(|(i, name)| names[..i].contains(name).then_some(name)) {
        return Some(format!("loss_type={list} names {twice} twice; give it once and weigh it by loss_weights"));
    }
    if !names.is_empty() && names.iter().all(|name| *name == "sft") {
        return Some(
            "loss_type=sft alone learns no preference; add another (loss_type=sigmoid,sft) or take the method sft"
                .into(),
        );
    }
    let weights = p.words("loss_weights").count();
    if weights > 1 && weights != names.len() {
        return Some(format!(
            "loss_weights has {weights} numbers and loss_type={list} {} losses; give one number for each, or one for all",
            names.len()
        ));
    }
    // Absent, it is the default, 0.
    let smoothing = p.f64("label_smoothing");
    let certain = smoothing.is_nan() || smoothing <= 0.0;
    if certain && !p.bool("soft_labels") && names.contains(&"robust") {
        return Some("loss_type=robust with label_smoothing=0 is sigmoid; set it to 0.1, or take sigmoid".into());
    }
    if certain && names.contains(&"exo_pair") {
        return Some("loss_type=exo_pair needs label_smoothing above 0; its authors take 0.001".into());
    }
    let first_outside = |losses: &[&str]| names.iter().find(|name| !losses.contains(name));
    if !matches!(p.text("f_divergence_type"), "" | "reverse_kl")
        && let Some(name) = first_outside(DIVERGENT)
    {
        return Some(format!(
            "loss_type={name} is only defined for f_divergence_type=reverse_kl; take that, or another loss"
        ));
    }
    let sorting = names.iter().find(|name| SORTING.contains(name));
    sorting.filter(|_| p.bool("use_weighting")).map(|name| {
        format!(
            "use_weighting weighs pairs, but loss_type={name} sorts them over the batch; set it to false or take another loss"
        )
    })
}

/// log π(c) − log π_ref(c), the chosen answer's log-ratio.
const A: &str = "log π(c) − log π_ref(c)";
/// The rejected answer's.
const B: &str = "log π(r) − log π_ref(r)";

fn objective(p: &Params) -> String {
    let weights: Vec<&str> = p.words("loss_weights").collect();
    let mut sum = Vec::new();
    for (i, loss) in p.words("loss_type").enumerate() {
        let term = formula(loss, p);
        let mut factors = Vec::new();
        if p.bool("use_weighting") && loss != "sft" {
            factors.push("w");
        }
        factors.extend(weights.get(i).or(weights.first()).copied().filter(|weight| *weight != "1"));
        if factors.is_empty() {
            sum.push(term);
        } else if loss == "sft" || loss == "hinge" {
            sum.push(format!("{}·{term}", factors.join("·")));
        } else {
            sum.push(format!("{}·[{term}]", factors.join("·")));
        }
    }
    let text = sum.join(" + ");
    let meanings = meanings(&text, p);
    if meanings.is_empty() { text } else { format!("{text},  {}", meanings.join(",  ")) }
}

/// One loss over the log-ratios a and b, their scores' difference Δ, or the same per token D.
fn formula(loss: &str, p: &Params) -> String {
    let (beta, e) = (p.text("beta"), p.text("label_smoothing"));
    let smoothed = |x: &str| {
        if p.f64("label_smoothing") > 0.0 {
            format!("−(1−{e})·log σ({beta}·{x}) − {e}·log σ(−{beta}·{x})")
        } else {
            format!("−log σ({beta}·{x})")
        }
    };
    match loss {
        "robust" if p.f64("label_smoothing") > 0.0 => {
            format!("(−(1−{e})·log σ({beta}·Δ) + {e}·log σ(−{beta}·Δ))/(1 − 2·{e})")
        }
        "hinge" => format!("max(0, 1 − {beta}·Δ)"),
        "ipo" => format!("(D − 1/(2·{beta}))²"),
        "ipo_sum" => format!("(Δ − 1/(2·{beta}))²"),
        "sigmoid_norm" => smoothed("D"),
        "exo_pair" => format!("KL((q, 1−q) ‖ (1−{e}, {e})), q = σ({beta}·Δ)"),
        "nca_pair" => format!("−log σ({beta}·a) − ½·log σ(−{beta}·a) − ½·log σ(−{beta}·b)"),
        "bco_pair" => format!("−log σ({beta}·a) − log σ(−{beta}·b)"),
        "sppo_hard" => format!("(a − 1/(2·{beta}))² + (b + 1/(2·{beta}))²"),
        "aot" => smoothed("R"),
        "aot_unpaired" => smoothed("U"),
        "apo_zero" => format!("1 − σ({beta}·a) + σ({beta}·b)"),
        "apo_down" => format!("σ({beta}·a) + 1 − σ({beta}·(a − b))"),
        "discopop" => {
            format!("−log σ(x)·(1 − m) + e^−x·m, x = {beta}·Δ, m = σ(x/{})", p.text("discopop_tau"))
        }
        "dpop" => format!("−log σ({beta}·(a − b − {}·max(0, −a)))", p.text("dpop_lambda")),
        "sft" => "NLL(chosen, per token)".into(),
        _ => smoothed("Δ"),
    }
}

/// What the letters in `text` stand for.
fn meanings(text: &str, p: &Params) -> Vec<String> {
    // A letter of its own, not one inside a word or a name.
    let uses = |letter: char| {
        let chars: Vec<char> = text.chars().collect();
        let word = |c: Option<&char>| c.is_some_and(|c| c.is_alphanumeric() && !matches!(c, 'π' | 'σ'));
        chars
            .iter()
            .enumerate()
            .any(|(i, c)| *c == letter && !word(i.checked_sub(1).and_then(|i| chars.get(i))) && !word(chars.get(i + 1)))
    };
    let alpha = p.text("f_alpha_divergence_coef");
    let score = match p.text("f_divergence_type") {
        "forward_kl" => Some("f(t) = 1 − e^−t".to_owned()),
        "js_divergence" => Some("f(t) = log 2 + log σ(t)".to_owned()),
        "alpha_divergence" => Some(format!("f(t) = (e^(({alpha}−1)·t) − 1)/({alpha}−1)")),
        _ => None,
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
        out.push("R = k-th largest log π(c) − log π(r) less k-th largest log π_ref(c) − log π_ref(r)".into());
    }
    if uses('U') {
        out.push("U = k-th largest a less k-th largest b".into());
    }
    if spelled {
        out.push(format!("a = {A},  b = {B}"));
    }
    if p.f64("ld_alpha") < 1.0 {
        out.push(format!("tokens beyond the shorter answer's length times {}", p.text("ld_alpha")));
    }
    if p.bool("soft_labels") {
        out.push("ε of a pair = its votes against, or its rater's slips".into());
    }
    if p.bool("use_weighting") {
        out.push("w = exp(mean log π − log Σπ²) of c times that of r".into());
    }
    out
}
