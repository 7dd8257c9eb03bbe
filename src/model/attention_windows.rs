//! Reads the fields of config.json that say which layers have a window, and how wide it is.
//!
//! Refuses layers with a window where no window is named, as `transformers` does, and kinds of layers that are not implemented.

use super::error::Error;
use super::family_spec::Family;
use super::fields::Fields;
use super::layer::LayerPattern;
use serde_json::Value;

/// The kinds of layers; the first files called those of full attention `attention`.
const KINDS: [&str; 3] = ["full_attention", "sliding_attention", "attention"];
const SLIDING: &str = "sliding_attention";

/// The windows of Qwen's dense classes: with `use_sliding_window` in the layers from `max_window_layers` on.
pub(crate) fn of_qwen(f: &Fields<'_>) -> Result<LayerPattern, Error> {
    if f.flag("use_sliding_window", false) {
        let named = f.raw("sliding_window").is_none_or(|window| !window.is_null());
        let from = LayerPattern::From(f.count_or("max_window_layers", 28)?);
        return Ok(if named { from } else { LayerPattern::None });
    }
    refuse_unused(f)?;
    Ok(LayerPattern::None)
}

/// Refuses `layer_types` that name a window where `use_sliding_window` says that there is none.
pub(crate) fn refuse_unused(f: &Fields<'_>) -> Result<(), Error> {
    let names = |kind: &Value| kind.as_str() == Some(SLIDING);
    if f.get("layer_types").and_then(Value::as_array).is_some_and(|list| list.iter().any(names)) {
        let what = format!("`layer_types` with {SLIDING} while `use_sliding_window` is false");
        return Err(f.refuse(what, "set `use_sliding_window` to true, or name full_attention alone"));
    }
    Ok(())
}

/// The layers with a window by `layer_types`; none where the file has no list.
pub(crate) fn listed(f: &Fields<'_>, family: &Family) -> Result<Option<LayerPattern>, Error> {
    let Some(list) = f.get("layer_types").and_then(Value::as_array) else { return Ok(None) };
    let names = list.iter().map(|kind| kind.as_str().unwrap_or("?"));
    if let Some(other) = names.clone().find(|name| !KINDS.contains(name)) {
        let known = "full_attention and sliding_attention are implemented";
        return Err(f.refuse(format!("`layer_types` with `{other}`"), known));
    }
    let layers = f.size("num_hidden_layers")?;
    if list.len() != layers {
        let why = format!("`layer_types` names {} layers, but `num_hidden_layers` is {layers}", list.len());
        return Err(Error::file(f.path, why));
    }
    let mut sliding: Vec<bool> = names.map(|name| name == SLIDING).collect();
    if let Some(last) = sliding.last_mut().filter(|_| family.defaults.full_at_last) {
        *last = false;
    }
    Ok(Some(if sliding.contains(&true) { LayerPattern::Listed(sliding) } else { LayerPattern::None }))
}

/// The width of the window; none where every layer attends to the whole context.
pub(super) fn width(f: &Fields<'_>, family: &Family, windows: &LayerPattern) -> Result<Option<usize>, Error> {
    if *windows == LayerPattern::None {
        return Ok(None);
    }
    let width = f.size_or("sliding_window", family.defaults.sliding_window)?;
    // Where all layers have it, null means none; where some have it, the class needs it.
    if width.is_none() && family.reads.contains(&"layer_types") {
        let known = "name its width, or full_attention alone in `layer_types`";
        return Err(f.refuse("layers with a window while `sliding_window` is null or missing", known));
    }
    Ok(width)
}
