//! Options about how chat templates render, and the command that shows it.

use super::values;
use crate::domain::{JsonFields, template_variables, variable_value};
use crate::storage::formats::Format;
use clap::Args;
use std::path::PathBuf;

/// Variables of the chat template.
#[derive(Debug, Clone, Default, Args)]
pub struct TemplateArgs {
    /// Variables of the chat template, such as '{"enable_thinking": false}'; a row's own go first.
    #[arg(long, value_name = "JSON", value_parser = template_variables)]
    pub chat_template_kwargs: Option<JsonFields>,
}

impl TemplateArgs {
    /// The variables.
    pub fn variables(self) -> JsonFields {
        self.chat_template_kwargs.unwrap_or_default()
    }
}

/// The same, each variable alone too.
#[derive(Debug, Clone, Default, Args)]
pub struct VariableArgs {
    /// Variables of the chat template.
    #[command(flatten)]
    pub template: TemplateArgs,
    /// Sets a variable of the chat template, such as enable_thinking=false; may be repeated.
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = variable)]
    pub set: Vec<(String, serde_json::Value)>,
}

impl VariableArgs {
    /// The variables.
    pub fn variables(self) -> JsonFields {
        let mut all = self.template.variables();
        all.extend(self.set);
        all
    }
}

fn variable(text: &str) -> Result<(String, serde_json::Value), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE, such as enable_thinking=false")?;
    let name = name.trim().to_owned();
    let value = variable_value(value);
    let one = serde_json::Value::Object([(name.clone(), value.clone())].into_iter().collect());
    template_variables(&one.to_string()).map(|_| (name, value))
}

/// `render`.
#[derive(Debug, Args)]
pub struct RenderArgs {
    /// A name that `tiebreak models` lists, a folder, or a .gguf file.
    pub model: String,
    /// A file of prompts, pairs, texts or ratings.
    pub file: PathBuf,
    /// Format of the file (default: detected as `import` does).
    #[arg(long = "as", value_name = "KIND", value_parser = values::import_format())]
    pub format: Option<&'static Format>,
    /// Maximum number of rows.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = values::at_most(1000))]
    pub limit: u64,
    /// Variables of the chat template.
    #[command(flatten)]
    pub template: TemplateArgs,
}
