//! How a file's tensors differ from those of this program: other names, experts in one tensor, transposed weights.
//!
//! Owns the forms in which the versions of `transformers` write one model. Refuses to read tensors.

use super::stacked_experts::{StackedExpert, StackedForm};
use std::borrow::Cow;

/// The form of a folder's tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StoredNames {
    /// `model.X` and `lm_head`.
    Plain,
    /// `X` instead of `model.X`: written by the class without a head.
    Bare,
    /// `X` instead of `gpt_neox.X`: the same of GPT-NeoX.
    NeoxBare,
    /// `model.language_model.X` and `lm_head`: the text model of a whole one, written by transformers 5.
    Part,
    /// `language_model.model.X` and `language_model.lm_head`: written by transformers 4.
    Inside,
    /// `embed_out` instead of `lm_head`: GPT-NeoX as written by transformers 4.
    EmbedOut,
    /// GPT-2, whose linear modules are (in, out).
    Gpt2,
    /// GPT-2 without its head's class: `h.N` instead of `transformer.h.N`.
    Gpt2Bare,
    /// GPT-OSS, whose sinks have no `.weight`, and whose experts are columns of one tensor.
    GptOss,
}

impl StoredNames {
    /// The form of a file that `has` these tensors.
    pub(super) fn of(has: impl Fn(&str) -> bool) -> Self {
        let embedding = |prefix: &str| has(&format!("{prefix}.embed_tokens.weight"));
        match () {
            () if has("model.layers.0.self_attn.sinks") => Self::GptOss,
            () if embedding("model") => Self::Plain,
            () if embedding("model.language_model") => Self::Part,
            () if embedding("language_model.model") => Self::Inside,
            () if has("embed_out.weight") => Self::EmbedOut,
            () if has("transformer.wte.weight") && has("transformer.wpe.weight") => Self::Gpt2,
            () if has("wte.weight") && has("wpe.weight") => Self::Gpt2Bare,
            () if has("embed_tokens.weight") => Self::Bare,
            () if has("embed_in.weight") => Self::NeoxBare,
            () => Self::Plain,
        }
    }

    /// The name in the file.
    pub(super) fn name(self, name: &str) -> Cow<'_, str> {
        match (self, name.strip_prefix("model.")) {
            (Self::Plain | Self::Gpt2, _) | (Self::Part, None) => name.into(),
            (Self::Part, Some(rest)) => format!("model.language_model.{rest}").into(),
            (Self::Bare, _) => name.strip_prefix("model.").unwrap_or(name).into(),
            (Self::NeoxBare, _) => name.strip_prefix("gpt_neox.").unwrap_or(name).into(),
            (Self::EmbedOut, _) => match name.strip_prefix("lm_head.") {
                Some(rest) => format!("embed_out.{rest}").into(),
                None => name.into(),
            },
            (Self::Inside, _) => format!("language_model.{name}").into(),
            (Self::GptOss, _) if name.ends_with(".sinks.weight") => name.trim_end_matches(".weight").into(),
            (Self::GptOss, _) => name.into(),
            (Self::Gpt2Bare, _) => name.strip_prefix("transformer.").unwrap_or(name).into(),
        }
    }

    /// Whether the file holds that tensor as (in, out).
    pub(super) fn transposed(self, name: &str) -> bool {
        let linear = [".c_attn.weight", ".c_proj.weight", ".c_fc.weight"];
        matches!(self, Self::Gpt2 | Self::Gpt2Bare) && linear.iter().any(|end| name.ends_with(end))
    }

    /// Where an expert's tensor is in a file that `has` those of all experts of a layer in one.
    pub(super) fn stacked(self, name: &str, has: impl Fn(&str) -> bool) -> Option<StackedExpert> {
        let part = if self == Self::GptOss { column(name)? } else { stacked_expert(name)? };
        let blocks = StackedExpert { form: StackedForm::Blocks, ..part.clone() };
        let is_blocks = self == Self::GptOss && !has(&part.name) && has(&blocks.blocks()) && has(&blocks.scales());
        let part = if is_blocks { blocks } else { part };
        has(&part.stored_name()).then_some(part)
    }
}

/// The layer, the number and the module of an expert's tensor, with its end.
fn of_expert(name: &str) -> Option<(&str, usize, &str)> {
    let (layer, rest) = name.split_once(".experts.")?;
    let (expert, module) = rest.split_once('.')?;
    Some((layer, expert.parse().ok()?, module))
}

/// Where GPT-OSS has a tensor of an expert.
pub(super) fn column(name: &str) -> Option<StackedExpert> {
    let (layer, expert, module) = of_expert(name)?;
    let (module, end) = module.rsplit_once('.')?;
    let end = if end == "bias" { "_bias" } else { "" };
    let (all, half) = match module {
        "gate_proj" => ("gate_up_proj", Some(0)),
        "up_proj" => ("gate_up_proj", Some(1)),
        "down_proj" => ("down_proj", None),
        _ => return None,
    };
    Some(StackedExpert { name: format!("{layer}.experts.{all}{end}"), expert, half, form: StackedForm::Columns })
}

/// Where transformers 5 puts a tensor in its own form, with the experts of a layer in one tensor each.
fn stacked_expert(name: &str) -> Option<StackedExpert> {
    let (layer, expert, module) = of_expert(name)?;
    let layer = layer.strip_suffix("block_sparse_moe").map_or_else(|| layer.to_owned(), |layer| format!("{layer}mlp"));
    let (all, half) = match module.strip_suffix(".weight")? {
        "gate_proj" | "w1" => ("gate_up_proj", Some(0)),
        "up_proj" | "w3" => ("gate_up_proj", Some(1)),
        "down_proj" | "w2" => ("down_proj", None),
        _ => return None,
    };
    Some(StackedExpert { name: format!("{layer}.experts.{all}"), expert, half, form: StackedForm::Rows })
}

/// The name of a router in that form.
pub(super) fn router_beside_stacked(name: &str) -> Option<String> {
    let (layer, _) = name.split_once("block_sparse_moe.gate.")?;
    Some(format!("{layer}mlp.gate.weight"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_experts_tensor_is_found_in_the_one_of_its_layer() {
        let of = |name: &str| stacked_expert(name).map(|found| (found.name, found.expert, found.half));
        let up = "model.layers.3.mlp.experts.gate_up_proj".to_owned();
        assert_eq!(of("model.layers.3.mlp.experts.12.up_proj.weight"), Some((up.clone(), 12, Some(1))));
        assert_eq!(of("model.layers.3.block_sparse_moe.experts.12.w3.weight"), Some((up, 12, Some(1))));
        let down = "model.layers.3.mlp.experts.down_proj".to_owned();
        assert_eq!(of("model.layers.3.block_sparse_moe.experts.0.w2.weight"), Some((down, 0, None)));
        assert_eq!(of("model.layers.3.mlp.shared_expert.up_proj.weight"), None);
        let router = router_beside_stacked("model.layers.3.block_sparse_moe.gate.weight");
        assert_eq!(router.as_deref(), Some("model.layers.3.mlp.gate.weight"));
    }

    #[test]
    fn gpt_oss_has_experts_in_columns_or_blocks() {
        let form =
            StoredNames::of(|name| ["model.layers.0.self_attn.sinks", "model.embed_tokens.weight"].contains(&name));
        assert_eq!(form, StoredNames::GptOss);
        assert_eq!(form.name("model.layers.1.self_attn.sinks.weight"), "model.layers.1.self_attn.sinks");
        let all = "model.layers.1.mlp.experts.gate_up_proj";
        let at = |name: &str, has: &[&str]| {
            let part = form.stacked(name, |name| has.contains(&name))?;
            Some((part.stored_name(), part.expert, part.half, part.form))
        };
        let up = "model.layers.1.mlp.experts.7.up_proj.weight";
        let [blocks, scales] = ["_blocks", "_scales"].map(|end| format!("{all}{end}"));
        assert_eq!(at(up, &[all]), Some((all.to_owned(), 7, Some(1), StackedForm::Columns)));
        assert_eq!(at(up, &[&blocks, &scales]), Some((blocks.clone(), 7, Some(1), StackedForm::Blocks)));
        assert_eq!(at(up, &[&blocks]), None, "blocks without scales are not read");
        let bias = format!("{all}_bias");
        let name = "model.layers.1.mlp.experts.0.gate_proj.bias";
        assert_eq!(at(name, &[&bias]), Some((bias.clone(), 0, Some(0), StackedForm::Columns)));
        assert_eq!(StoredNames::Plain.stacked(name, |_| true), None);
    }

    #[test]
    fn gpt_2_is_read_with_and_without_its_heads_class() {
        for (names, form, first) in [
            (&["transformer.wte.weight", "transformer.wpe.weight"][..], StoredNames::Gpt2, "transformer.h.0.ln_1.bias"),
            (&["wte.weight", "wpe.weight"], StoredNames::Gpt2Bare, "h.0.ln_1.bias"),
        ] {
            let found = StoredNames::of(|name| names.contains(&name));
            assert_eq!((found, &*found.name("transformer.h.0.ln_1.bias")), (form, first));
            assert!(
                found.transposed("transformer.h.0.attn.c_proj.weight") && !found.transposed("transformer.wte.weight")
            );
        }
        assert!(!StoredNames::Plain.transposed("model.layers.0.mlp.c_fc.weight"));
    }
}
