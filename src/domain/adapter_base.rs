//! The base model that an adapter made elsewhere names, compared with the model that it is applied to.

/// What a person should know of an adapter's base; none if it is the model by its name.
#[must_use]
pub fn adapter_base_note(base: &str, model: &str) -> Option<String> {
    let last = |name: &str| name.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_lowercase();
    let (own, other) = (last(model), last(base));
    if base.is_empty() {
        return Some(format!("the adapter names no base model; it is applied to {model}"));
    }
    if own == other {
        return None;
    }
    let quantised = ["bnb", "4bit", "4-bit", "8bit", "gptq", "awq"].iter().any(|word| other.contains(word));
    Some(if quantised {
        format!(
            "the adapter was trained on {base}, a quantised copy; it is applied to {model} in that model's own weights, so its \
             answers may differ slightly"
        )
    } else {
        format!(
            "the adapter names {base} as its base and is applied to {model}: use that model unless both are the same"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_base_is_said() {
        assert_eq!(adapter_base_note("acme/Tiny", "/models/tiny"), None);
        let bnb = adapter_base_note("unsloth/tiny-bnb-4bit", "acme/tiny").unwrap();
        assert!(bnb.contains("quantised copy") && bnb.contains("applied to acme/tiny"), "{bnb}");
        assert!(adapter_base_note("acme/other", "acme/tiny").unwrap().contains("names acme/other as its base"));
        assert!(adapter_base_note("", "acme/tiny").unwrap().contains("no base model"));
    }
}
