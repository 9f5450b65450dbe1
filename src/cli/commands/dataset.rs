//! `reknit dataset`: what a dataset is, shown, or carried to another machine in a file with its secret.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::cli::args::{Dataset, DatasetCommand};
use crate::cli::env::Env;
use crate::cli::output::{Printer, fields};
use crate::cli::records::{hex, unhex};
use crate::cli::units::show_count;
use crate::cli::{CliError, Exit};
use crate::core::{DatasetKey, Definition, Profile};
use crate::format::{Format, Layout};
use crate::store::Store;

/// What the file of a dataset begins with.
const FILE_FORMAT: &str = "reknit dataset 1";
/// Bytes of such a file: layouts of as many columns as there can be, in hex.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// A dataset as a file. Bytes are in hex; what is decided by them is not said twice, except the name, for people.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    format: String,
    name: String,
    definition: String,
    /// The secret of the dataset.
    key: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    layout: Vec<FileLayout>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileLayout {
    collection: String,
    layout: String,
}

pub(crate) fn run(args: &Dataset, env: &mut Env) -> Result<Exit, CliError> {
    match &args.command {
        DatasetCommand::Show { store } => show(store, env),
        DatasetCommand::Export { store, file } => export(store, file, env),
        DatasetCommand::Import { file, dir } => import(file, dir, env),
    }
}

fn show(typed: &Path, env: &mut Env) -> Result<Exit, CliError> {
    let store = env.store(typed)?;
    let definition = store.definition();
    let profile = match definition.profile {
        Profile::Versioned => "versioned",
        Profile::Content => "content",
    };
    let (hash, root) = (definition.hash().to_string(), store.root());
    let mut lines = vec![
        format!("dataset    {}", definition.name),
        format!("id         {}", definition.id),
        format!("profile    {profile}"),
        format!("key index  {}", if definition.key_index { "yes" } else { "no" }),
        format!("definition {hash}"),
        format!("root       {} ({} entries)", root.digest, show_count(root.count)),
    ];
    let mut collections = Vec::new();
    for (_, collection) in definition.data() {
        let layout = store.collection(&collection.name)?.layout()?.unwrap_or_default();
        let layout = Layout::from_bytes(&layout)?;
        let rows = match layout.format() {
            Format::Kv => "raw records".to_string(),
            format => format!("{format} rows, key {}", layout.key_columns().join(",")),
        };
        lines.push(format!("collection {}: {rows}, policy {}", collection.name, collection.policy));
        collections.push(json!({
            "name": collection.name,
            "policy": collection.policy,
            "as": layout.format().to_string(),
            "key_columns": layout.key_columns(),
            "columns": layout.columns(),
        }));
    }
    let members = definition.members().map(|_| store.members()).transpose()?.map(|members| members.len());
    lines.push(match members {
        Some(n) => format!("members    {n}"),
        None => "members    not kept".into(),
    });
    let mut summary = json!({
        "dataset": definition.name,
        "dataset_id": definition.id.to_string(),
        "profile": profile,
        "key_index": definition.key_index,
        "definition": hash,
        "root": root.digest.to_string(),
        "entries": root.count,
        "collections": collections,
    });
    if let Some(n) = members {
        summary["members"] = json!(n);
    }
    Printer::new(env).end(Exit::Done, &lines.join("\n"), fields(summary))
}

fn export(store: &Path, typed: &Path, env: &mut Env) -> Result<Exit, CliError> {
    let store = env.store(store)?;
    let definition = store.definition();
    let mut layout = Vec::new();
    for collection in &definition.collections {
        if let Some(bytes) = store.collection(&collection.name)?.layout()? {
            layout.push(FileLayout { collection: collection.name.clone(), layout: hex(&bytes) });
        }
    }
    let file = File {
        format: FILE_FORMAT.into(),
        name: definition.name.clone(),
        definition: hex(&definition.encode()),
        key: hex(store.dataset_key().as_bytes()),
        layout,
    };
    let body = toml::to_string(&file).map_err(|error| CliError::new("defect", error.to_string()))?;
    let text = format!("# A Reknit dataset with its secret key: whoever has this file can take part in it.\n{body}");
    let path = env.path(typed);
    let open = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
    let written = open.and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()));
    written.map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => {
            let message = format!("{} is there already and was not touched; name another file", typed.display());
            CliError::new("dataset.exists", message)
        }
        _ => CliError::new("output", format!("{} cannot be written: {error}", typed.display())),
    })?;
    let text = format!("wrote the dataset {} with its secret to {}; keep it safe", definition.name, typed.display());
    let summary = json!({
        "dataset": definition.name,
        "dataset_id": definition.id.to_string(),
        "file": path.display().to_string(),
    });
    Printer::new(env).end(Exit::Done, &text, fields(summary))
}

fn import(typed: &Path, dir: &Path, env: &mut Env) -> Result<Exit, CliError> {
    let refused =
        |reason: String| CliError::new("dataset.malformed", format!("{}: {reason}; nothing was made", typed.display()));
    let mut text = String::new();
    let read = fs::File::open(env.path(typed)).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text));
    read.map_err(|error| CliError::new("dataset.file", format!("{}: {error}; nothing was made", typed.display())))?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(refused(format!("more than {FILE_BYTES_MAX} bytes")));
    }
    // What the parser says could quote the line of the secret.
    let unread = |error: toml::de::Error| {
        let line = error.span().map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1);
        refused(format!("line {}: {}", line.unwrap_or(1), error.message()))
    };
    let file: File = toml::from_str(&text).map_err(unread)?;
    if file.format != FILE_FORMAT {
        return Err(refused(format!("the format {:?}, where this release reads {FILE_FORMAT:?}", file.format)));
    }
    let bytes = |name: &str, digits: &str| unhex(digits).ok_or_else(|| refused(format!("{name} is not in hex")));
    let definition = Definition::decode(&bytes("definition", &file.definition)?);
    let definition = definition.map_err(|error| refused(format!("definition: {error}")))?;
    let key = <[u8; 32]>::try_from(bytes("key", &file.key)?).map_err(|_| refused("key has not 32 bytes".into()))?;
    let mut layouts = Vec::new();
    for FileLayout { collection, layout } in &file.layout {
        let layout = bytes("layout", layout)?;
        Layout::from_bytes(&layout).map_err(|error| refused(format!("layout of {collection:?}: {error}")))?;
        if definition.collection(collection).is_none() {
            return Err(refused(format!("a layout of {collection:?}, which is no collection of the dataset")));
        }
        layouts.push((collection, layout));
    }
    let store = Store::create(&env.path(dir), definition, DatasetKey::from_bytes(key), &env.store_options())?;
    for (collection, layout) in layouts {
        store.collection(collection)?.set_layout(Some(layout))?;
    }
    super::init::made(&store, dir, env)
}
