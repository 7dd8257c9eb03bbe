//! How a file's tensors differ from those of this program: other names, experts in one tensor, transposed weights.
//!
//! Owns the forms in which the versions of `transformers` write one model. Refuses to read tensors.

use std::borrow::Cow;
use std::ops::Range;

/// The form of a folder's tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StoredNames {
    /// `model.X` and `lm_head`.
    Plain,
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
}

/// Where the tensor of an expert is in a file that holds all experts of a layer in one, (experts, out, in).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct StackedExpert {
    /// The tensor of all experts.
    pub(super) name: String,
    /// The expert's number.
    pub(super) expert: usize,
    /// Which half of its rows: the gate's, then those of up. None: all.
    pub(super) half: Option<usize>,
}

impl StackedExpert {
    /// Its range within a tensor of shape `all`, in units of `size` for each number; `shape` is its own.
    pub(super) fn elements(&self, all: &[usize], shape: &[usize], size: usize) -> Range<usize> {
        let one: usize = shape.iter().product();
        let expert: usize = all.iter().skip(1).product();
        let first = self.expert * expert + self.half.unwrap_or(0) * one;
        first * size..(first + one) * size
    }
}

impl StoredNames {
    /// The form of a file that `has` these tensors.
    pub(super) fn of(has: impl Fn(&str) -> bool) -> Self {
        let embedding = |prefix: &str| has(&format!("{prefix}.embed_tokens.weight"));
        match () {
            () if embedding("model") => Self::Plain,
            () if embedding("model.language_model") => Self::Part,
            () if embedding("language_model.model") => Self::Inside,
            () if has("embed_out.weight") => Self::EmbedOut,
            () if has("transformer.wte.weight") && has("transformer.wpe.weight") => Self::Gpt2,
            () if has("wte.weight") && has("wpe.weight") => Self::Gpt2Bare,
            () => Self::Plain,
        }
    }

    /// The name in the file.
    pub(super) fn name(self, name: &str) -> Cow<'_, str> {
        match (self, name.strip_prefix("model.")) {
            (Self::Plain | Self::Gpt2, _) | (Self::Part, None) => name.into(),
            (Self::Part, Some(rest)) => format!("model.language_model.{rest}").into(),
            (Self::EmbedOut, _) => match name.strip_prefix("lm_head.") {
                Some(rest) => format!("embed_out.{rest}").into(),
                None => name.into(),
            },
            (Self::Inside, _) => format!("language_model.{name}").into(),
            (Self::Gpt2Bare, _) => name.strip_prefix("transformer.").unwrap_or(name).into(),
        }
    }

    /// Whether the file holds that tensor as (in, out).
    pub(super) fn transposed(self, name: &str) -> bool {
        let linear = [".c_attn.weight", ".c_proj.weight", ".c_fc.weight"];
        matches!(self, Self::Gpt2 | Self::Gpt2Bare) && linear.iter().any(|end| name.ends_with(end))
    }
}

/// Where transformers 5 puts a tensor in its own form, with the experts of a layer in one tensor each.
pub(super) fn stacked_expert(name: &str) -> Option<StackedExpert> {
    let (layer, rest) = name.split_once(".experts.")?;
    let layer = layer.strip_suffix("block_sparse_moe").map_or_else(|| layer.to_owned(), |layer| format!("{layer}mlp"));
    let (expert, module) = rest.split_once('.')?;
    let (all, half) = match module.strip_suffix(".weight")? {
        "gate_proj" | "w1" => ("gate_up_proj", Some(0)),
        "up_proj" | "w3" => ("gate_up_proj", Some(1)),
        "down_proj" | "w2" => ("down_proj", None),
        _ => return None,
    };
    Some(StackedExpert { name: format!("{layer}.experts.{all}"), expert: expert.parse().ok()?, half })
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
