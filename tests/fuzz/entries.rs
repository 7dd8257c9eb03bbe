//! The entry functions of fuzzing: each gives bytes that a stranger wrote to one reader of the program, as a user would.
//!
//! Owns what is called with the bytes, and the inputs to begin with. The same functions run in the normal tests (over those
//! inputs and over every input that once failed) and under libFuzzer. An entry panics when the program breaks a promise;
//! an error of the program is a correct answer. Refuses to know how inputs are changed.

use std::cell::OnceCell;
use std::fs;
use std::path::{Path, PathBuf};
use tiebreak::domain::{Message, MessageFields, PairId, Rater};
use tiebreak::model::{Config, Gguf, PeftAdapter, SpecialTokens, Template, Tokenizer, Trained, Weights};
use tiebreak::protocol::{Envelope, RunEvent, SessionMeta, SessionRecord, decode, records_within};
use tiebreak::storage::formats::{imports, recognise};
use tiebreak::storage::{Home, LogTail, RunDir, SessionDir, import, pack};

/// A reader under test.
pub struct Entry {
    /// Its name, also of its libFuzzer target and of its folder of failed inputs.
    pub name: &'static str,
    /// Gives it the bytes.
    pub run: fn(&[u8]),
    /// Valid inputs.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All of them.
pub const ENTRIES: &[Entry] = &[
    Entry { name: "log_lines", run: log_lines, seeds: logs },
    Entry { name: "log_records", run: log_records, seeds: logs },
    Entry { name: "run_records", run: run_records, seeds: run_logs },
    Entry { name: "spec", run: spec, seeds: specs },
    Entry { name: "inputs", run: inputs, seeds: recorded_inputs },
    Entry { name: "imports", run: imported, seeds: rows },
    Entry { name: "gguf", run: gguf, seeds: ggufs },
    Entry { name: "safetensors", run: safetensors, seeds: weights },
    Entry { name: "weight_index", run: weight_index, seeds: indexes },
    Entry { name: "adapter", run: adapter, seeds: adapters },
    Entry { name: "tokenizer", run: tokenizer, seeds: tokenizers },
    Entry { name: "tokenizer_config", run: tokenizer_config, seeds: tokenizer_configs },
    Entry { name: "sentencepiece", run: sentencepiece, seeds: sentencepieces },
    Entry { name: "template", run: template, seeds: templates },
    Entry { name: "model_config", run: model_config, seeds: model_configs },
    Entry { name: "settings", run: settings, seeds: setting_files },
    Entry { name: "packed", run: packed, seeds: packs },
    Entry { name: "server_answer", run: server_answer, seeds: answers },
    Entry { name: "kept_answers", run: kept_answers, seeds: kept },
];

/* ------------------------------------------------------------------------------------------------------ the places */

fn root() -> PathBuf {
    // The fuzz crate lies two folders below the program's.
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    if here.ends_with("tests/fuzz") { here.join("../..") } else { here.to_path_buf() }
}

/// A folder of this thread, in memory where there is such a place, emptied for every input.
fn desk(name: &str) -> PathBuf {
    thread_local! {
        static DESK: OnceCell<tempfile::TempDir> = const { OnceCell::new() };
    }
    let memory = Path::new("/dev/shm");
    let made = || {
        let builder = tempfile::Builder::new();
        if memory.is_dir() { builder.tempdir_in(memory) } else { builder.tempdir() }.unwrap()
    };
    let path = DESK.with(|desk| desk.get_or_init(made).path().join(name));
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).unwrap();
    path
}

fn put(dir: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = dir.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, bytes).unwrap();
    path
}

/// Every file below `folder` whose name ends so, at most `largest` bytes long.
fn files(folder: &str, ending: &str, largest: u64) -> Vec<Vec<u8>> {
    fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() { walk(&path, found) } else { found.push(path) }
        }
    }
    let mut found = Vec::new();
    walk(&root().join(folder), &mut found);
    found.sort();
    let fits = |path: &PathBuf| {
        path.to_string_lossy().ends_with(ending) && fs::metadata(path).is_ok_and(|meta| meta.len() <= largest)
    };
    found.into_iter().filter(fits).map(|path| fs::read(path).unwrap()).collect()
}

/// The first lines of a file, up to so many bytes.
fn head(bytes: &[u8], most: usize) -> Vec<u8> {
    let mut end = 0;
    for line in bytes.split_inclusive(|b| *b == b'\n') {
        if end + line.len() > most {
            break;
        }
        end += line.len();
    }
    bytes[..end].to_vec()
}

/// No sentence that the program shows may carry an escape to the terminal.
fn said(text: &str) {
    assert!(!text.contains('\u{1b}'), "an escape in {text:?}");
}

fn answered<T, E: std::fmt::Display>(answer: Result<T, E>) -> Option<T> {
    answer.inspect_err(|error| said(&error.to_string())).ok()
}

/* -------------------------------------------------------------------------------------------------- logs and runs */

fn session_at(dir: &Path, log: &[u8]) -> SessionDir {
    let meta = SessionMeta { format: 1, name: "s".into(), model: "none".into(), created_ms: 1, app: "0".into() };
    put(dir, "session.json", &serde_json::to_vec(&meta).unwrap());
    put(dir, "events/000001.jsonl", log);
    SessionDir::open(dir).unwrap()
}

/// A record to write behind what is there.
fn added() -> SessionRecord {
    SessionRecord::Noted { pair: PairId::new("p"), rater: Rater::new("r"), text: "new".into() }
}

fn numbers<T>(records: &[Envelope<T>]) -> std::collections::BTreeSet<u64> {
    records.iter().map(|record| record.n).collect()
}

/// A damaged log loses no whole record, before or after the writer's repair, and a new record is added.
fn log_lines(bytes: &[u8]) {
    let home = desk("log");
    let dir = session_at(&home.join("sessions/s"), bytes);
    for line in bytes.split(|b| *b == b'\n') {
        let _ = decode::<SessionRecord>(line);
        for range in records_within(line) {
            assert!(range.end <= line.len());
        }
    }
    let Some(before) = answered(dir.tail().finish()) else { return };
    let _ = answered(dir.state());
    let lock = dir.lock().unwrap().unwrap();
    let Some(mut writer) = answered(dir.writer(&lock)) else { return };
    if answered(writer.append(&added())).is_none() {
        return;
    }
    writer.sync().unwrap();
    let after = dir.tail().finish().unwrap();
    assert!(numbers(&before).is_subset(&numbers(&after)), "repair lost a record");
    assert!(after.len() > before.len(), "the new record is missing");
}

/// The lines of `bytes` with the right checksum, whatever is in them.
fn sealed(bytes: &[u8]) -> Vec<u8> {
    let mut log = Vec::new();
    for line in bytes.split(|b| *b == b'\n') {
        let body = line.windows(5).rposition(|w| w == b",\"c\":").map_or(line, |at| &line[..at]);
        log.extend_from_slice(body);
        log.extend_from_slice(format!(",\"c\":\"{:08x}\"}}\n", crc32fast::hash(body)).as_bytes());
    }
    log
}

/// Records with valid checksums, as another program could write them: folding them never panics.
fn log_records(bytes: &[u8]) {
    let home = desk("records");
    let dir = session_at(&home.join("sessions/s"), &sealed(bytes));
    let Some((state, found)) = answered(dir.state()) else { return };
    let _ = (state.verdicts().count(), found.damage());
    for place in &found.first {
        said(&place.to_string());
    }
}

fn run_records(bytes: &[u8]) {
    let home = desk("run");
    let dir = session_at(&home, b"");
    put(&home, "runs/r-1/spec.json", &first(specs()));
    put(&home, "runs/r-1/metrics/000001.jsonl", &sealed(bytes));
    let _ = answered(LogTail::<RunEvent>::new(&home.join("runs/r-1/metrics")).finish());
    let _ = answered(dir.state());
}

fn spec(bytes: &[u8]) {
    let dir = desk("spec");
    put(&dir, "spec.json", bytes);
    let run = RunDir::open(&dir).unwrap();
    if let Some(spec) = answered(run.spec()) {
        let text = serde_json::to_vec(&spec).unwrap();
        assert!(
            serde_json::from_slice::<tiebreak::protocol::RunSpec>(&text).is_ok(),
            "a spec that cannot be read again"
        );
        let _ = (run.launch_seq(&spec), answered(run.data_path()), answered(run.resolved_spec()));
    }
}

fn inputs(bytes: &[u8]) {
    let dir = desk("inputs");
    put(&dir, "spec.json", &first(specs()));
    put(&dir, "inputs.json", bytes);
    let _ = answered(RunDir::open(&dir).unwrap().recorded_inputs());
}

fn first(all: Vec<Vec<u8>>) -> Vec<u8> {
    all.into_iter().next().unwrap()
}

fn logs() -> Vec<Vec<u8>> {
    files("sessions", "events/000001.jsonl", 8 << 20).into_iter().map(|log| head(&log, 20_000)).collect()
}

fn run_logs() -> Vec<Vec<u8>> {
    let mut logs = files("sessions", "metrics/000001.jsonl", 8 << 20);
    logs.extend(files("tests/fixtures/sessions-2026-11-26", "metrics/000001.jsonl", 8 << 20));
    logs.into_iter().map(|log| head(&log, 8000)).collect()
}

fn specs() -> Vec<Vec<u8>> {
    [files("sessions", "spec.json", 20_000), files("tests/fixtures", "spec.json", 20_000)].concat()
}

fn recorded_inputs() -> Vec<Vec<u8>> {
    let mut found = [files("sessions", "inputs.json", 20_000), files("tests/fixtures", "inputs.json", 20_000)].concat();
    found.push(serde_json::to_vec_pretty(&tiebreak::protocol::Inputs::default()).unwrap());
    found
}

/* -------------------------------------------------------------------------------------------------------- imports */

/// The format that recognises the rows, and two others.
fn imported(bytes: &[u8]) {
    let path = put(&desk("rows"), "rows", bytes);
    let formats: Vec<_> = imports().collect();
    let at = crc32fast::hash(bytes) as usize;
    let others = [formats[at % formats.len()], formats[(at >> 8) % formats.len()]];
    for format in answered(recognise(&path)).into_iter().chain(others) {
        if let Some(imported) = answered(import::read(&path, format, None)) {
            for text in imported.left_out().into_iter().chain(imported.notes()) {
                said(&text);
            }
        }
    }
}

fn rows() -> Vec<Vec<u8>> {
    let mut found = files("tests/fixtures/formats", ".jsonl", 100_000);
    found.push(b"prompt,chosen,rejected\na,\"b, c\",d\ne,f,g\n".to_vec());
    found.push(b"[{\"prompt\":\"a\",\"chosen\":\"b\",\"rejected\":\"c\"}]".to_vec());
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, &found[0]).unwrap();
    found.push(gzip.finish().unwrap());
    found
}

/* --------------------------------------------------------------------------------------------------- model folders */

/// What every fuzzed model folder has beside the file under test.
fn tiny_config() -> Config {
    Config::parse(&fs::read_to_string(root().join("tests/fixtures/tiny-llama/config.json")).unwrap(), Path::new("c"))
        .unwrap()
}

/// The most tensors that one input may have read.
const TENSORS: usize = 64;
/// The most values of a tensor that one input may have read.
const VALUES: usize = 1 << 22;

/// Whether the computation would size memory by what the file claims.
fn is_small(shape: &[usize]) -> bool {
    shape.iter().try_fold(1_usize, |all, n| all.checked_mul(*n)).is_some_and(|all| all <= VALUES)
}

fn gguf(bytes: &[u8]) {
    let path = put(&desk("gguf"), "m.gguf", bytes);
    let Some(file) = answered(Gguf::open(&path)) else { return };
    let _ = (file.template().map(str::len), file.parameters(), answered(file.check_tokenizer()));
    let Some(config) = answered(file.config()) else { return };
    if let Some(tokenizer) = answered(file.tokenizer(&config)) {
        used(&tokenizer);
    }
    for (name, _) in config.tensors().take(TENSORS) {
        let _ = (file.has(&name, &config), file.stored_type(&name, &config));
        if file.shape(&name, &config).as_deref().is_some_and(is_small) {
            let _ = answered(file.load(&name, &config));
        }
    }
}

fn cpu() -> candle_core::Device {
    candle_core::Device::Cpu
}

fn all_taken(dir: &Path, config: &Config) {
    let Some(mut weights) = answered(Weights::open(dir, &cpu(), candle_core::DType::F32)) else { return };
    for (name, shape) in config.tensors().take(TENSORS) {
        let _ = (weights.has(&name), weights.stored_type(&name));
        if is_small(&shape) {
            let _ = answered(weights.take(&name, &shape));
        }
    }
    let _ = answered(weights.finish());
}

fn safetensors(bytes: &[u8]) {
    let dir = desk("weights");
    put(&dir, "model.safetensors", bytes);
    all_taken(&dir, &tiny_config());
    put(&dir, tiebreak::model::TRAINED_FILE, bytes);
    let _ = answered(Trained::read(&dir));
}

fn weight_index(bytes: &[u8]) {
    let dir = desk("index");
    put(&dir, "model.safetensors.index.json", bytes);
    put(&dir, "a.safetensors", &first(weights()));
    all_taken(&dir, &tiny_config());
}

/// The settings of an adapter; where the input holds a line `--`, what follows it is its weights.
fn adapter(bytes: &[u8]) {
    let dir = desk("adapter");
    let (settings, weights) = match bytes.windows(4).position(|w| w == b"\n--\n") {
        Some(at) => (&bytes[..at], &bytes[at + 4..]),
        None => (bytes, b"".as_slice()),
    };
    put(&dir, "adapter_config.json", settings);
    put(&dir, "adapter_model.safetensors", weights);
    let _ = answered(PeftAdapter::read(&dir, &tiny_config()));
}

/// A tokenizer that was accepted must encode and decode.
fn used(tokenizer: &Tokenizer) {
    for text in ["Hello, world", "", "  a\u{301}\u{1F600}\n\n123 4567"] {
        if let Some(ids) = answered(tokenizer.encode(text, true)) {
            let _ = (answered(tokenizer.decode(&ids)), answered(tokenizer.decode_all(&ids)));
        }
    }
    let _ = (
        answered(tokenizer.decode(&[0, u32::MAX])),
        tokenizer.size(),
        tokenizer.base_size(),
        answered(tokenizer.to_json()),
    );
}

fn tokenizer(bytes: &[u8]) {
    if let Some(tokenizer) =
        answered(Tokenizer::from_json(bytes, "m", SpecialTokens::default(), vec![0], &tiny_config()))
    {
        used(&tokenizer);
    }
}

fn tiny(name: &str) -> Vec<u8> {
    fs::read(root().join("tests/fixtures/tiny-llama").join(name)).unwrap()
}

fn tokenizer_config(bytes: &[u8]) {
    let dir = desk("tokens");
    put(&dir, "tokenizer.json", &tiny("tokenizer.json"));
    put(&dir, "tokenizer_config.json", bytes);
    if let Some(tokenizer) = answered(Tokenizer::read(&dir, &tiny_config())) {
        used(&tokenizer);
    }
    if let Some(Some(template)) = answered(Template::read(&dir, &SpecialTokens::default())) {
        rendered(&template);
    }
}

fn sentencepiece(bytes: &[u8]) {
    let dir = desk("pieces");
    put(&dir, "tokenizer.model", bytes);
    put(&dir, "tokenizer_config.json", &tiny("tokenizer_config.json"));
    if let Some(tokenizer) = answered(Tokenizer::read(&dir, &tiny_config())) {
        used(&tokenizer);
    }
}

fn rendered(template: &Template) {
    let turn = |role: &str, content: &str| Message {
        role: role.into(),
        content: content.into(),
        more: MessageFields::default(),
    };
    let talk = [turn("system", "Be kind."), turn("user", "Hello"), turn("assistant", "Hi"), turn("user", "And?")];
    let _ = template.variables();
    let _ = (answered(template.render(&talk, true)), answered(template.render(&talk[1..3], false)));
}

fn template(bytes: &[u8]) {
    let Ok(source) = std::str::from_utf8(bytes) else { return };
    if let Some(template) = answered(Template::new(source, "m", &SpecialTokens::default())) {
        rendered(&template);
    }
}

fn model_config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Some(config) = answered(Config::parse(text, Path::new("config.json"))) else { return };
    let _ = (config.tensors().take(1000).count(), config.parameters(), config.linears().len(), config.norm_bias());
    for layer in [0, 1, 2, 1 << 20] {
        let _ = (
            config.rope_of(layer),
            config.shape_of(layer),
            config.window_of(layer),
            config.q_width(),
            config.kv_width(),
        );
    }
}

fn ggufs() -> Vec<Vec<u8>> {
    files("tests/fixtures", ".gguf", 200_000)
}

fn weights() -> Vec<Vec<u8>> {
    let mut found = vec![tiny("model.safetensors")];
    found.extend(files("tests/fixtures/trl", "lora.safetensors", 200_000));
    found
}

fn indexes() -> Vec<Vec<u8>> {
    vec![br#"{"metadata":{"total_size":10},"weight_map":{"model.norm.weight":"a.safetensors"}}"#.to_vec()]
}

fn adapters() -> Vec<Vec<u8>> {
    ["lora", "dora", "patterns"]
        .iter()
        .map(|name| {
            let file = |file: &str| fs::read(root().join("tests/fixtures/peft").join(name).join(file)).unwrap();
            [file("adapter_config.json"), b"\n--\n".to_vec(), file("adapter_model.safetensors")].concat()
        })
        .collect()
}

fn tokenizers() -> Vec<Vec<u8>> {
    let small = |vocabulary: &str| {
        format!(
            r#"{{"version":"1.0","added_tokens":[{{"id":0,"content":"<e>","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true}}],"normalizer":{{"type":"Sequence","normalizers":[{{"type":"Prepend","prepend":"_"}},{{"type":"Replace","pattern":{{"String":" "}},"content":"_"}}]}},"pre_tokenizer":{{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":true}},"post_processor":null,"decoder":{{"type":"ByteLevel"}},"model":{vocabulary}}}"#
        )
        .into_bytes()
    };
    vec![
        tiny("tokenizer.json"),
        small(
            r#"{"type":"BPE","vocab":{"<e>":0,"a":1,"b":2,"ab":3},"merges":["a b"],"byte_fallback":true,"unk_token":"<e>"}"#,
        ),
        small(
            r#"{"type":"WordPiece","vocab":{"<e>":0,"a":1,"b":2},"unk_token":"<e>","continuing_subword_prefix":"b","max_input_chars_per_word":9}"#,
        ),
        small(r#"{"type":"Unigram","vocab":[["<e>",0.0],["a",-1.0]],"unk_id":0,"byte_fallback":false}"#),
        small(r#"{"type":"WordLevel","vocab":{"<e>":0,"a":1},"unk_token":"<e>"}"#),
    ]
}

fn tokenizer_configs() -> Vec<Vec<u8>> {
    let mut found = files("tests/fixtures", "tokenizer_config.json", 20_000);
    found.push(br#"{"eos_token":{"content":"</s>","lstrip":false},"chat_template":[{"name":"default","template":"{{ messages }}"}],"added_tokens_decoder":{"0":{"content":"x","special":true}}}"#.to_vec());
    found
}

fn sentencepieces() -> Vec<Vec<u8>> {
    files("tests/fixtures/sentencepiece", ".model", 400_000)
        .into_iter()
        .map(|bytes| bytes[..bytes.len().min(60_000)].to_vec())
        .collect()
}

fn templates() -> Vec<Vec<u8>> {
    let mut found = files("tests/fixtures", ".jinja", 20_000);
    found.push(b"{% for m in messages %}{{ m.role|upper }}: {{ m['content'].strip()[:3] }} {{ '%s' % loop.index0 }}{% endfor %}{{ strftime_now('%Y-%m-%d') }}{{ range(3)|list|tojson }}".to_vec());
    found.push(b"{% macro f(x) %}{{ x ~ 'a' * 3 }}{% endmacro %}{% set ns = namespace(i=0) %}{% for a in messages[1:] %}{% set ns.i = ns.i + 1 %}{{ f(a.content) }}{% endfor %}{% if ns.i is odd %}{{ raise_exception('no') }}{% endif %}".to_vec());
    found
}

fn model_configs() -> Vec<Vec<u8>> {
    let mut found = files("tests/fixtures", "config.json", 20_000);
    found.retain(|text| text.windows(10).any(|w| w == b"model_type"));
    for family in ["qwen3", "gemma3_text", "phi3", "cohere2", "granite", "olmo2", "smollm3", "mistral"] {
        found.push(
            format!(
                r#"{{"model_type":"{family}","hidden_size":64,"num_attention_heads":4,"num_key_value_heads":2,"num_hidden_layers":2,"intermediate_size":96,"vocab_size":100,"rms_norm_eps":1e-6,"layer_norm_eps":1e-5,"rope_theta":10000.0,"rope_scaling":{{"rope_type":"yarn","factor":4.0,"original_max_position_embeddings":32}},"max_position_embeddings":128,"hidden_act":"silu","sliding_window":16,"layer_types":["sliding_attention","full_attention"]}}"#
            )
            .into_bytes(),
        );
    }
    found
}

/* ------------------------------------------------------------------------------------- settings, archives, servers */

fn settings(bytes: &[u8]) {
    let path = put(&desk("settings"), "config.toml", bytes);
    let read = tiebreak::shell::UserSettings::read(path);
    if let Some(problem) = read.problem {
        said(&problem);
    }
}

fn setting_files() -> Vec<Vec<u8>> {
    vec![
        b"preset = \"vim\"\nguard_ms = 250\nbackground = \"light\"\nsuites = \"there\"\n\n[keys.label]\nundo = [\"u\", \"ctrl-z\"]\n".to_vec(),
        b"[keys]\npreset = \"emacs\"\n[keys.list]\nquit = \"Q\"\n".to_vec(),
        b"# nothing\n".to_vec(),
    ]
}

/// A tar archive, compressed here: a changed compressed one rarely gets past its checksum.
fn packed(bytes: &[u8]) {
    let dir = desk("packed");
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
    std::io::Write::write_all(&mut gzip, bytes).unwrap();
    let compressed = if bytes.starts_with(&[0x1f, 0x8b]) { bytes.to_vec() } else { gzip.finish().unwrap() };
    let path = put(&dir, "in/p.tar.gz", &compressed);
    let home = Home::resolve(Some(&dir.join("home"))).unwrap();
    home.create().unwrap();
    if let Some((session, _)) = answered(pack::unpack(&home, &path, None)) {
        let _ = answered(session.state());
    }
    // Nothing lies outside the folder of sessions, and nothing is left of what was refused.
    for entry in fs::read_dir(&dir).unwrap() {
        let name = entry.unwrap().file_name();
        assert!(name == "in" || name == "home", "{} was written outside", name.display());
    }
    for entry in fs::read_dir(home.sessions()).unwrap() {
        let name = entry.unwrap().file_name();
        assert!(!name.to_string_lossy().starts_with(".tmp-"), "{} is left", name.display());
    }
}

fn packs() -> Vec<Vec<u8>> {
    let dir = desk("to-pack");
    let session = session_at(&dir.join("sessions/s"), &head(&first(logs()), 4000));
    put(&dir, "sessions/s/runs/r-1/spec.json", &first(specs()));
    let to = dir.join("p.tar.gz");
    pack::pack(&session, &to, true).unwrap();
    let compressed = fs::read(&to).unwrap();
    let mut archive = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(compressed.as_slice()), &mut archive).unwrap();
    vec![archive, compressed]
}

/// Answers that a run's asking process kept: a new one reads them, and adds a line without changing one.
fn kept_answers(bytes: &[u8]) {
    let dir = desk("asked");
    put(&dir, "spec.json", &first(specs()));
    put(&dir, "asked.jsonl", bytes);
    let asked = RunDir::open(&dir).unwrap().asked();
    let Some(before) = answered(asked.lines()) else { return };
    answered(tiebreak::generate::server::Asking::new(&before, (Box::new(Vec::new()), Box::new(std::io::empty()))));
    asked.writer().unwrap().unwrap().add("new").unwrap();
    let after = asked.lines().unwrap();
    assert!(after.starts_with(&before), "a line was changed");
    assert!(after.len() - before.len() <= 2 && after.last().is_some_and(|line| line == "new"), "the new line is torn");
}

fn kept() -> Vec<Vec<u8>> {
    let line = |said: &str| format!("{{\"id\":\"c-1\",\"said\":{said}}}\n");
    let reply =
        r#"{"reply":{"text":"Hello","thought":"","finish":"stop","tokens":2,"fingerprint":null,"chosen":true}}"#;
    let fault = r#"{"fault":{"kind":"Passing","text":"busy","retry_after":null,"dropped":false}}"#;
    vec![[line(reply), "\n".into(), line(fault)].concat().into_bytes()]
}

fn server_answer(bytes: &[u8]) {
    let _ = tiebreak::generate::server::read_answer(bytes).map_err(|fault| said(&fault.text));
    if let Ok(value) = serde_json::from_slice(bytes) {
        let letters = tiebreak::generate::server::letters_of(&value);
        assert!(letters.is_none_or(|l| (0.0..=1.0).contains(&l.a)), "a probability outside 0 to 1");
    }
}

fn answers() -> Vec<Vec<u8>> {
    vec![
        concat!(
            ": a comment\n\n",
            "data: {\"system_fingerprint\":\"fp\",\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":null}}]}\n\n",
            "data: {\"choices\":[{\"delta\":{\"reasoning_content\":\"Well.\"}}]}\n\n",
            "data: {\"choices\":[{\"delta\":{\"content\":\"s\"},\"finish_reason\":\"stop\"}]}\n\n",
            "data: {\"choices\":[],\"usage\":{\"completion_tokens\":7}}\n\ndata: [DONE]\n",
        )
        .into(),
        b"{\"choices\":[{\"message\":{\"content\":\"a\"},\"finish_reason\":\"length\",\"logprobs\":{\"content\":[{\"top_logprobs\":[{\"token\":\"A\",\"logprob\":-0.1},{\"token\":\" B\",\"logprob\":-2}]}]}}]}".to_vec(),
        b"{\"choices\":[{\"text\":\"b\",\"logprobs\":{\"top_logprobs\":[{\"A\":-0.5,\"B\":-1.5}]}}]}".to_vec(),
        b"{\"error\":{\"message\":\"too long\",\"code\":400}}".to_vec(),
        b"<html>no</html>".to_vec(),
    ]
}
