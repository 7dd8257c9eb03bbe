//! The command line: parsing arguments and reporting wrong usage.
//!
//! Owns command names, options and help texts. Lists only commands that work. Refuses to run them: `commands` does.

mod bench;
mod choice;
mod data;
mod evaluate;
mod rounds;
mod server;
mod template;
mod values;

pub use bench::{BenchAction, BenchSampleArgs, BenchTrainArgs, BenchUiArgs};
pub use choice::{ChoiceArgs, RubricArgs, TagArgs};
pub use data::DataAction;
pub use evaluate::EvalArgs;
pub use rounds::LoopArgs;
pub use server::ServerArgs;
pub use template::{RenderArgs, TemplateArgs, VariableArgs};
pub use values::span_words;

use super::error::Error;
use crate::domain::{Aggregation, Filter, QueueOrder, StratumKey, methods, nearest};
use crate::storage::formats::Format;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use std::ffi::OsString;
use std::path::PathBuf;

/// tiebreak: sample, label, train, watch and replay preference alignment, in a terminal.
#[derive(Debug, Parser)]
#[command(
    name = "tiebreak",
    version,
    about = "A terminal workbench for preference alignment: sample, label, train, watch, replay"
)]
#[command(
    after_help = "Without a command the workbench opens. SESSION is a name under the data folder or a path to a session's folder."
)]
#[command(args_conflicts_with_subcommands = false, subcommand_negates_reqs = true)]
pub struct Cli {
    /// The data folder (default: TIEBREAK_HOME, else the platform's).
    #[arg(long, global = true, value_name = "DIR")]
    pub home: Option<PathBuf>,
    /// Print one JSON object per line.
    #[arg(long, global = true)]
    pub json: bool,
    /// Options of the screens.
    #[command(flatten)]
    pub screen: ScreenArgs,
    /// The command.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Options of commands that open a screen.
#[derive(Debug, Clone, Args, Default)]
pub struct ScreenArgs {
    /// Do not use synchronised output, even if the terminal supports it.
    #[arg(long)]
    pub no_sync: bool,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Open a copy of a bundled session: works offline and needs no model.
    Demo {
        /// The bundled session (default: the first).
        name: Option<String>,
        /// Options of the screens.
        #[command(flatten)]
        screen: ScreenArgs,
    },
    /// List the models on this machine, or get one.
    Models {
        /// Another action than listing.
        #[command(subcommand)]
        action: Option<ModelsAction>,
    },
    /// Get a dataset's files from the Hugging Face hub.
    Data {
        /// What to do.
        #[command(subcommand)]
        action: DataAction,
    },
    /// Print what a model reads of a file's rows, with what is learned of them.
    Render(RenderArgs),
    /// Create a session.
    New(NewArgs),
    /// Import a file of prompts, labelled pairs, texts or ratings into a session.
    Import(ImportArgs),
    /// Sample candidate answers to a session's prompts, in the background.
    Sample(SampleArgs),
    /// Train on a session's data, in the background.
    Train(TrainArgs),
    /// Compare two models: is one better?
    Eval(Box<EvalArgs>),
    /// Sample, pair, judge, train and evaluate in rounds, each from the model of the round before.
    Loop(Box<LoopArgs>),
    /// Score a session's answers with a trained run, or judge its pairs with a run or a judge model.
    Score(ScoreArgs),
    /// Choose pairs of a session's answers and put them up for labelling.
    Pair(PairArgs),
    /// Say how far a session's raters agree, with each other and with themselves.
    Agreement(AgreementArgs),
    /// Set or show how many labels a session's pairs get and how they become one.
    Rule(RuleArgs),
    /// Show, add or remove the criteria by which a session's pairs are judged.
    Rubric(RubricArgs),
    /// Set tags on prompts (+TAG), or take them off (-TAG).
    Tag(TagArgs),
    /// Write a session to one file, to send it to somebody.
    Pack(PackArgs),
    /// Unpack a session from such a file.
    Unpack(UnpackArgs),
    /// Take the verdicts, adjudications, corrections and notes of other copies of a session, each once.
    Collect(CollectArgs),
    /// Open a session on its labelling screen.
    Label {
        /// The session.
        session: String,
        /// Which pairs come, in which order (`tiebreak score` gives scores).
        #[arg(long, value_name = "ORDER", default_value = "arrival", value_parser = values::order(), help = choice::order_help())]
        order: QueueOrder,
        /// Label only the pairs that match, such as "tag:code -verdict:tie gap:<0.5".
        #[arg(long, value_name = "FILTER", allow_hyphen_values = true, value_parser = values::filter, long_help = choice::filter_help())]
        filter: Option<Filter>,
        /// The criterion to judge by; all: overall, then each criterion, before the next pair.
        #[arg(long, value_name = "NAME", default_value = "overall")]
        rubric: String,
        /// Name of the rater (default: the user's name).
        #[arg(long, value_name = "NAME")]
        rater: Option<String>,
        /// Options of the screens.
        #[command(flatten)]
        screen: ScreenArgs,
    },
    /// Open a session on its charts.
    Watch {
        /// The session or the run.
        #[arg(value_name = "SESSION[/RUN]")]
        target: String,
        /// Options of the screens.
        #[command(flatten)]
        screen: ScreenArgs,
    },
    /// List a session's runs.
    Runs {
        /// The session.
        session: String,
    },
    /// Pause a run before its next step.
    Pause(RunArgs),
    /// Resume a paused run, or a lost or stopped one from its last checkpoint.
    Resume(RunArgs),
    /// Write a checkpoint of a run now.
    Checkpoint(RunArgs),
    /// Stop a run after a checkpoint.
    Stop(RunArgs),
    /// Export a session's labelled pairs, SFT texts or ratings to a file for other programs.
    Export(ExportArgs),
    /// Write a run's result as a model folder or an adapter folder.
    Merge(MergeArgs),
    /// Replay a saved session, or verify its logs.
    Replay(ReplayArgs),
    /// Export a session or a run as a picture of a screen, a page, a table or data.
    Report(ReportArgs),
    /// Measure the speed of this program on this machine.
    Bench {
        /// What to measure.
        #[command(subcommand)]
        action: BenchAction,
    },
    /// Show facts about this machine, its data folder and its terminal.
    Doctor,
    /// Print the path of the settings file and the keys of every action.
    Config,
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// Actions on models.
#[derive(Debug, Subcommand)]
pub enum ModelsAction {
    /// Download a model, or what is missing of it; every file is verified. Reads HF_TOKEN, HF_ENDPOINT, HF_HUB_CACHE, HF_HOME
    /// and HF_HUB_OFFLINE.
    Get {
        /// ORG/NAME, ORG/NAME@REVISION or ORG/NAME/FILE.gguf on the Hugging Face hub; or smollm2.
        #[arg(value_name = "ORG/NAME[@REVISION]")]
        name: String,
    },
    /// Show how a model reads: dimensions, end tokens, what its template makes of small conversations, and problems.
    Show {
        /// A name that `tiebreak models` lists, a folder, or a .gguf file.
        model: String,
        /// Variables of the chat template.
        #[command(flatten)]
        template: TemplateArgs,
    },
    /// Create an untrained model and its training texts: the starting point of the bundled model `tiny`.
    Make(MakeArgs),
}

/// `models make`.
#[derive(Debug, Args)]
pub struct MakeArgs {
    /// The model to create.
    #[arg(value_parser = ["tiny"])]
    pub name: String,
    /// The folder to create; it must be empty. The model goes to DIR/model, the texts to DIR/corpus.jsonl,
    /// DIR/prompts.txt and DIR/held_out.txt.
    #[arg(long, value_name = "DIR")]
    pub to: PathBuf,
    /// Seed of the weights and of the texts.
    #[arg(long, value_name = "S", default_value_t = 42)]
    pub seed: u64,
    /// Exchanges in the corpus, as rows of {"messages": …}.
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    pub rows: u64,
    /// Maximum number of prompts from the training split.
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub prompts: usize,
    /// Maximum number of prompts from the held-out split, which is never in the corpus.
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub held_out: usize,
    /// Hidden size; a multiple of twice the number of heads.
    #[arg(long, value_name = "N", default_value_t = 160, value_parser = values::at_most(4096))]
    pub hidden: u64,
    /// Layers.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = values::at_most(64))]
    pub layers: u64,
    /// Attention heads.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = values::at_most(64))]
    pub heads: u64,
    /// Key/value heads; must divide the number of heads.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = values::at_most(64))]
    pub kv_heads: u64,
    /// Feed-forward size.
    #[arg(long, value_name = "N", default_value_t = 448, value_parser = values::at_most(16_384))]
    pub ff: u64,
}

/// `new`.
#[derive(Debug, Args)]
pub struct NewArgs {
    /// The session's name (or a path).
    pub session: String,
    /// The model to sample from and train: a name of `tiebreak models`, a folder, a .gguf file or a Hugging Face id.
    #[arg(long, value_name = "MODEL")]
    pub model: String,
    /// A file of prompts, one per line or JSONL; may be repeated.
    #[arg(long, value_name = "FILE")]
    pub prompts: Vec<PathBuf>,
}

/// `import`.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// The session.
    pub session: String,
    /// The file.
    pub file: PathBuf,
    /// Format of the file (default: detected from its first records; then `messages` are prompts, and no texts are
    /// probes).
    #[arg(long = "as", value_name = "KIND", value_parser = values::import_format())]
    pub format: Option<&'static Format>,
    /// Maximum number of rows.
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// Show what the first rows become and which columns are not used; import nothing.
    #[arg(long)]
    pub dry_run: bool,
}

/// `export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// The session.
    pub session: String,
    /// The file to write, replaced if it exists, or - for standard output.
    #[arg(long, value_name = "FILE")]
    pub to: PathBuf,
    /// Format of the file.
    #[arg(long, value_name = "NAME", default_value = "trl", value_parser = values::export_format())]
    pub format: &'static Format,
    /// Which rows.
    #[command(flatten)]
    pub choice: ChoiceArgs,
    /// Export what can be read of damaged logs.
    #[arg(long)]
    pub allow_damaged: bool,
}

/// `sample`.
#[derive(Debug, Args)]
pub struct SampleArgs {
    /// The session.
    pub session: String,
    /// Answers per prompt.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub per_prompt: u16,
    /// Sampling temperature; 0 is greedy decoding.
    #[arg(long, value_name = "T", default_value_t = 0.8, allow_negative_numbers = true, value_parser = values::temperature)]
    pub temperature: f64,
    /// Top-p (nucleus) sampling; 1 keeps every token.
    #[arg(long, value_name = "P", default_value_t = 0.95, allow_negative_numbers = true, value_parser = values::share)]
    pub top_p: f64,
    /// Maximum number of tokens of an answer.
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub max_new_tokens: u32,
    /// Seed of the random numbers (default: 42 for a session's first sampling run, 43 for its second …).
    #[arg(long, value_name = "S")]
    pub seed: Option<u64>,
    /// A model to sample from instead of the session's, or URL#NAME for one behind an OpenAI-compatible server
    /// (http://127.0.0.1:8080/v1#NAME; Ollama, llama.cpp, vLLM, LM Studio …); may be repeated, models take turns.
    #[arg(long = "model", value_name = "MODEL|URL#NAME")]
    pub models: Vec<String>,
    /// How servers are asked.
    #[command(flatten)]
    pub server: ServerArgs,
    /// A training run of this session whose adapter is applied to its model; RUN@best takes its best checkpoint. May be
    /// repeated, and takes turns with the models that --model names.
    #[arg(long = "adapter", value_name = "RUN")]
    pub adapters: Vec<String>,
    /// Variables of the chat template.
    #[command(flatten)]
    pub template: VariableArgs,
    /// Device: auto, cpu, cuda:0, metal.
    #[arg(long, default_value = "auto")]
    pub device: String,
    /// Return at once; the run continues in the background.
    #[arg(long)]
    pub detach: bool,
}

/// `train`.
#[derive(Debug, Args)]
pub struct TrainArgs {
    /// The session.
    pub session: String,
    /// The method.
    #[arg(help = method_help())]
    pub method: String,
    /// Sets a hyper-parameter, or enable_thinking=false and other variables of the chat template.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// The run's name (default: the method and a number).
    #[arg(long)]
    pub name: Option<String>,
    /// The adapter to start from: a run of this session (RUN@best takes its best checkpoint), or a folder of Python's peft.
    #[arg(long, value_name = "RUN|DIR")]
    pub init: Option<String>,
    /// Which rows.
    #[command(flatten)]
    pub choice: ChoiceArgs,
    /// Variables of the chat template.
    #[command(flatten)]
    pub template: TemplateArgs,
    /// The folder of the files of `eval_suites` (default: `suites` in the data folder).
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Train on what can be read of damaged logs.
    #[arg(long)]
    pub allow_damaged: bool,
    /// Device: auto, cpu, cuda:0, metal.
    #[arg(long, default_value = "auto")]
    pub device: String,
    /// Return at once; the run continues in the background.
    #[arg(long)]
    pub detach: bool,
}

/// `score`.
#[derive(Debug, Args)]
pub struct ScoreArgs {
    /// The session.
    pub session: String,
    /// What scores: a reward run of this session, or a dpo, orpo, cpo, simpo or kto run by its implicit reward (RUN@best
    /// takes the best checkpoint); with --vote also judge:MODEL or judge:URL#NAME, a model that compares two answers.
    #[arg(long = "with", value_name = "RUN|judge:MODEL")]
    pub with: String,
    /// Judge every pair that it has not judged: verdicts by the rater model:RUN or model:judge:MODEL.
    #[arg(long)]
    pub vote: bool,
    /// The largest difference of a tie: for a run in standard deviations of its scores (default 0.1), for a judge as
    /// distance from an even probability (default 0.05).
    #[arg(long, value_name = "X", requires = "vote", allow_negative_numbers = true, value_parser = values::tie_band)]
    pub tie_band: Option<f64>,
    /// How servers are asked.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// `pair`.
#[derive(Debug, Args)]
pub struct PairArgs {
    /// The session.
    pub session: String,
    /// How pairs are chosen.
    #[arg(long, value_name = "NAME", value_parser = values::strategy())]
    pub strategy: String,
    /// What strata are made of; may be given several times.
    #[arg(long, value_name = "KEY", value_delimiter = ',', value_parser = StratumKey::ALL.iter().map(|(name, _)| *name).collect::<Vec<_>>())]
    pub by: Vec<String>,
    /// How many of each stratum: proportional, equal, neyman, or STRATUM=N for each.
    #[arg(long, value_name = "QUOTA")]
    pub quota: Vec<String>,
    /// Where scores come from: a run that scored the session (`tiebreak score`), judge:NAME, logprob, length, or checks:LIST.
    #[arg(long, value_name = "SOURCE")]
    pub score: Option<String>,
    /// What a hard negative is: runner_up, middle, or a band of score gaps such as 0.5..2.
    #[arg(long, value_name = "WHAT", default_value = "runner_up")]
    pub against: String,
    /// Choose only among answers that match; terms on verdicts match nothing, as unpaired answers have none.
    #[arg(long, value_name = "FILTER", allow_hyphen_values = true, value_parser = values::filter, long_help = choice::filter_help())]
    pub filter: Option<Filter>,
    /// The most pairs to choose (default: all).
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// Pair answers of different sampling runs, models and files too.
    #[arg(long)]
    pub across: bool,
    /// Decides what is random.
    #[arg(long, default_value_t = 42)]
    pub seed: u64,
}

/// `pack`.
#[derive(Debug, Args)]
pub struct PackArgs {
    /// The session.
    pub session: String,
    /// The file to write, a gzipped tar archive.
    #[arg(long, value_name = "FILE")]
    pub to: PathBuf,
    /// Pack the runs' checkpoints too.
    #[arg(long)]
    pub weights: bool,
}

/// `unpack`.
#[derive(Debug, Args)]
pub struct UnpackArgs {
    /// The packed session.
    pub file: PathBuf,
    /// The session's name here (default: the name it has).
    #[arg(long = "as", value_name = "NAME")]
    pub name: Option<String>,
}

/// `collect`.
#[derive(Debug, Args)]
pub struct CollectArgs {
    /// The session.
    pub session: String,
    /// Other copies: packed sessions, folders or names.
    #[arg(required = true)]
    pub from: Vec<String>,
    /// Gives a rater of the other copies another name here.
    #[arg(long, value_name = "OLD=NEW")]
    pub rename: Vec<String>,
    /// A name that labelled in both copies is one person; the later verdict counts.
    #[arg(long)]
    pub one_person: bool,
    /// Collect what can be read of damaged logs.
    #[arg(long)]
    pub allow_damaged: bool,
}

/// `agreement`.
#[derive(Debug, Args)]
pub struct AgreementArgs {
    /// The session.
    pub session: String,
}

/// `rule`.
#[derive(Debug, Args)]
pub struct RuleArgs {
    /// The session.
    pub session: String,
    /// Labels that every pair gets, each by another rater.
    #[arg(long, value_name = "N", value_parser = parse_count)]
    pub labels_per_item: Option<usize>,
    /// Labels after which a pair without agreement is disputed.
    #[arg(long, value_name = "N", value_parser = parse_count)]
    pub max_labels: Option<usize>,
    /// The least share of agreeing pairs of labels, from 0 to 1.
    #[arg(long, value_name = "T", value_parser = parse_share)]
    pub threshold: Option<f64>,
    /// How labels become an outcome.
    #[arg(long, value_name = "NAME", value_parser = Aggregation::ALL.iter().map(|(name, _)| *name).collect::<Vec<_>>())]
    pub aggregation: Option<String>,
    /// The share of a rater's judged pairs that come back, unmarked and with swapped sides; 0 turns repeats off.
    #[arg(long, value_name = "SHARE", value_parser = parse_share)]
    pub repeats: Option<f64>,
    /// The fewest other verdicts of the rater before a pair comes back (default: 20).
    #[arg(long, value_name = "N", value_parser = parse_distance)]
    pub repeat_distance: Option<usize>,
    /// The least time before a pair comes back, such as 2h, 30m or 1d (default: none).
    #[arg(long, value_name = "SPAN", value_parser = values::span)]
    pub repeat_after: Option<u64>,
}

fn parse_distance(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|n| (1..=100_000).contains(n)).ok_or_else(|| "expected a number from 1 to 100000".into())
}

fn parse_count(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|n| (1..=99).contains(n)).ok_or_else(|| "expected a number from 1 to 99".into())
}

fn parse_share(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|x| (0.0..=1.0).contains(x)).ok_or_else(|| "expected a number from 0 to 1".into())
}

/// Commands on one run.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The run, as SESSION/RUN.
    #[arg(value_name = "SESSION/RUN")]
    pub run: String,
}

/// `merge`.
#[derive(Debug, Args)]
pub struct MergeArgs {
    /// The run, as SESSION/RUN; SESSION/RUN@best takes its best checkpoint.
    #[arg(value_name = "SESSION/RUN")]
    pub run: String,
    /// The folder to write; it must be empty.
    #[arg(long, value_name = "DIR")]
    pub to: PathBuf,
    /// hf: a merged model in f32; hf-base: the same in the base model's data type; peft: the adapter alone (all three with the score
    /// head of a reward run); gguf: a merged file for llama.cpp and Ollama; gguf-adapter: the adapter alone for llama.cpp.
    #[arg(long, default_value = "hf", value_parser = ["hf", "hf-base", "peft", "gguf", "gguf-adapter"])]
    pub format: String,
    /// A PPO run's value head on its layers, as a classifier with one label, in place of the policy.
    #[arg(long)]
    pub critic: bool,
    /// The type of the matrices in a GGUF file: f16 if not given, f32 in an adapter.
    #[arg(long = "type", value_name = "TYPE", value_parser = ["f16", "f32", "q8_0", "q4_0"])]
    pub written: Option<String>,
}

/// `replay`.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// The session.
    pub session: String,
    /// Verify the checksums, sequence numbers and state hashes of every log, without a screen.
    #[arg(long)]
    pub check: bool,
    /// Playback speed (0.25 to 64).
    #[arg(long, value_name = "X", conflicts_with = "check", allow_negative_numbers = true, value_parser = values::speed)]
    pub speed: Option<f64>,
    /// Options of the screens.
    #[command(flatten)]
    pub screen: ScreenArgs,
}

/// `report`.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// The session or the run.
    #[arg(value_name = "SESSION[/RUN]")]
    pub target: String,
    /// The file to write; its extension is the format: .svg, .html, .md, .csv or .json; - writes Markdown to stdout.
    #[arg(long, value_name = "FILE")]
    pub to: PathBuf,
    /// The screen in the picture (default: label for a session, watch for a run, evaluate for an evaluation).
    #[arg(long, value_parser = values::screens())]
    pub screen: Option<String>,
    /// Columns and rows of the picture.
    #[arg(long, value_name = "WxH", default_value = "100x30", value_parser = values::size)]
    pub size: (u16, u16),
    /// Keys to press before the picture is taken; a line break is enter.
    #[arg(long, value_name = "KEYS", default_value = "")]
    pub keys: String,
}

/// `The method: dpo, orpo`, from the method table.
fn method_help() -> String {
    let names: Vec<&str> = methods().iter().map(|m| m.name).collect();
    format!("The method: {}", names.join(", "))
}

/// The result of parsing.
#[derive(Debug)]
pub enum Parsed {
    /// A command to run.
    Run(Box<Cli>),
    /// Help or version, to print unchanged.
    Show(String),
}

/// The definition of the command line. Hides `demo` without bundled sessions.
pub fn definition() -> clap::Command {
    Cli::command().mut_subcommand("demo", |demo| demo.hide(super::bundle::names().is_empty()))
}

/// Parses the process's arguments.
///
/// # Errors
/// Wrong usage in one sentence, with a similar name if there is one.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Parsed, Error> {
    let args: Vec<OsString> = args.into_iter().collect();
    let parsed = definition().try_get_matches_from(&args).and_then(|m| Cli::from_arg_matches(&m));
    match parsed {
        Ok(cli) => Ok(Parsed::Run(Box::new(cli))),
        Err(e) => match e.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Ok(Parsed::Show(e.render().to_string())),
            _ => Err(Error::Usage(sentence(&e, &args))),
        },
    }
}

/// The parser's error as one sentence, with a similar name or the command's help.
fn sentence(error: &clap::Error, args: &[OsString]) -> String {
    let text = error.render().to_string();
    let paragraph = text.split("\n\n").next().unwrap_or_default();
    let words: Vec<&str> = paragraph.split_whitespace().collect();
    let words = words.join(" ");
    let what = words.strip_prefix("error: ").unwrap_or(&words);
    if let Some(near) = nearest_name(error, args) {
        return format!("{what}; did you mean `{near}`?");
    }
    let command = definition();
    let subcommand = args.iter().skip(1).find_map(|arg| command.find_subcommand(arg));
    format!("{what}; see `tiebreak{} --help`", subcommand.map_or_else(String::new, |c| format!(" {}", c.get_name())))
}

/// A similar name for a wrong command or option.
fn nearest_name(error: &clap::Error, args: &[OsString]) -> Option<String> {
    let wrong = |kind| match error.get(kind)? {
        ContextValue::String(s) => Some(s.clone()),
        _ => None,
    };
    let mut command = definition();
    command.build();
    if let Some(given) = wrong(ContextKind::InvalidSubcommand) {
        let names: Vec<&str> = command.get_subcommands().map(clap::Command::get_name).collect();
        return nearest(&given, names).map(str::to_owned);
    }
    if error.kind() != ErrorKind::UnknownArgument {
        return None;
    }
    let given = wrong(ContextKind::InvalidArg)?;
    let given = given.strip_prefix("--")?;
    let subcommand = args.iter().skip(1).find_map(|arg| command.find_subcommand(arg)).unwrap_or(&command);
    let names: Vec<&str> = subcommand.get_arguments().filter_map(clap::Arg::get_long).collect();
    nearest(given, names).map(|near| format!("--{near}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(args: &[&str]) -> String {
        let args = std::iter::once("tiebreak").chain(args.iter().copied()).map(OsString::from);
        match parse(args) {
            Err(Error::Usage(text)) => text,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_definition_is_sound() {
        definition().debug_assert();
    }

    #[test]
    fn mistakes_are_one_sentence_with_the_nearest_name() {
        for (args, near) in [
            (&["smaple", "x"][..], "`sample`"),
            (&["sample", "x", "--temprature", "1"][..], "`--temperature`"),
            (&["train", "x", "dpo", "--st", "a=b"][..], "`--set`"),
            (&["nope"][..], "`tiebreak --help`"),
            (&["man"][..], "`tiebreak --help`"),
        ] {
            let text = usage(args);
            assert!(text.contains(near), "{text}");
            assert_eq!(text.lines().count(), 1, "{text}");
        }
    }

    #[test]
    fn numbers_out_of_range_say_the_range() {
        assert!(usage(&["sample", "x", "--top-p", "1.5"]).contains("to 1"));
        assert!(usage(&["sample", "x", "--temperature", "-1"]).contains('0'));
        assert!(usage(&["replay", "x", "--speed", "0.1"]).contains("from 0.25 to 64"));
        assert!(usage(&["sample", "x", "--per-prompt", "0"]).contains("1..=64"));
        assert!(usage(&["sample", "x", "--per-prompt", "0"]).ends_with("see `tiebreak sample --help`"));
    }
}
