//! How the addresses of tables are spelled: of what kind they are, what of them is shown, what they have in common. Nothing is
//! opened here.

use std::path::{Path, PathBuf};

use crate::cli::CliError;
use crate::cli::args::STORE;
use crate::store::linked::{FileFormat, PostgresAddress, redacted};
use crate::transport::Address;

pub(crate) const SQLITE: &str = "sqlite:";
const QUIC: &str = "quic";
const POSTGRES: [&str; 2] = ["postgres://", "postgresql://"];
pub(super) const S3: &str = "s3://";
pub(super) const FILES: [(&str, FileFormat); 3] =
    [("csv:", FileFormat::Csv), ("jsonl:", FileFormat::Jsonl), ("parquet:", FileFormat::Parquet)];

/// Whether a side, as it was typed, is a table: of a database, or a file.
pub(crate) fn is_table(typed: &str) -> bool {
    typed.starts_with(SQLITE) || is_postgres(typed) || is_file(typed)
}

/// Refuses an address that begins as none does.
///
/// # Errors
/// `usage.scheme`.
pub(crate) fn known_scheme(typed: &str) -> Result<(), CliError> {
    match typed.split_once("://") {
        Some((scheme, _)) if !is_table(typed) && scheme != QUIC => {
            let message = format!(
                "{scheme}:// is no side of this release, and nothing was compared; a directory, {QUIC}://, postgres://, \
                 {S3}, {SQLITE}, csv:, jsonl:, parquet: or {STORE} is"
            );
            Err(CliError::new("usage.scheme", message))
        }
        _ => Ok(()),
    }
}

/// Refuses an address that nothing can be meant by, as far as that can be said before anything is opened: of a database, a
/// table in it, or a peer.
///
/// # Errors
/// `usage.scheme`, `usage.address`, `database`.
pub(crate) fn admit(typed: &str) -> Result<(), CliError> {
    if is_postgres(typed) {
        // What an address leaves out here may be said where it is used.
        let (bare, options) = typed.split_once('?').unwrap_or((typed, ""));
        // What follows may be the rest of a password.
        if options.contains('@') && !options.starts_with("ssl") {
            let message = format!("{}: a password is written with %3F for a ?; nothing was compared", shown(typed));
            return Err(CliError::new("usage.address", message));
        }
        let said = bare.trim_end_matches('/').splitn(5, '/').count().saturating_sub(3);
        let rest = ["/database/table", "/table", ""][said.min(2)];
        return Ok(PostgresAddress::parse(&format!("{}{rest}?{options}", bare.trim_end_matches('/'))).map(drop)?);
    }
    if typed.starts_with(&format!("{QUIC}://")) {
        return Ok(typed.parse::<Address>().map(drop)?);
    }
    known_scheme(typed)
}

/// Whether a side, as it was typed, is a file, or a store beside a table: what is read and never written.
pub(crate) fn is_file(typed: &str) -> bool {
    typed.starts_with(S3) || typed.starts_with(STORE) || FILES.iter().any(|(scheme, _)| typed.starts_with(scheme))
}

/// Whether a side, as it was typed, is in a database of PostgreSQL.
pub(crate) fn is_postgres(typed: &str) -> bool {
    POSTGRES.iter().any(|scheme| typed.starts_with(scheme))
}

/// A side as it was typed, without a password.
pub(crate) fn shown(typed: &str) -> String {
    if is_postgres(typed) { redacted(typed) } else { typed.to_string() }
}

/// The same with all of its path, if it is in a file here; relative ones begin in `dir`.
pub(crate) fn in_full(typed: &str, dir: &Path) -> String {
    match file_of(typed) {
        Some((scheme, file)) => format!("{scheme}{}", real(&dir.join(file)).display()),
        None => shown(typed),
    }
}

/// A path without detours; the last part of it may name what is within a file.
fn real(path: &Path) -> PathBuf {
    let within = || Some(path.parent()?.canonicalize().ok()?.join(path.file_name()?));
    path.canonicalize().ok().or_else(within).unwrap_or_else(|| path.into())
}

/// What nobody else may work on while a table is worked on: of PostgreSQL without options and whoever asks, and of several tables
/// their database. In a schema that is searched a table goes by its name alone; a file by its whole path.
pub(crate) fn held(typed: &str) -> String {
    if !is_postgres(typed) {
        return in_full(typed.strip_suffix("/*").unwrap_or(typed), Path::new(""));
    }
    let shown = shown(typed);
    let bare = shown.split_once('?').map_or(&*shown, |(bare, _)| bare);
    let rest = bare.split_once("://").map_or(bare, |(_, rest)| rest);
    let bare = format!("postgres://{}", rest.rsplit_once('@').map_or(rest, |(_, host)| host));
    match bare.rsplit_once('/') {
        Some((database, table)) if table.is_empty() || table == "*" || table.ends_with(".*") => database.into(),
        Some((database, table)) => format!("{database}/{}", table.strip_prefix("public.").unwrap_or(table)),
        None => bare,
    }
}

/// A side as a shell takes it, without a password.
pub(crate) fn typed_again(typed: &str) -> String {
    let shown = shown(typed);
    if shown.contains('?') { format!("'{shown}'") } else { shown }
}

/// Whether an address, as it was typed, says a password.
pub(crate) fn has_password(typed: &str) -> bool {
    is_postgres(typed) && redacted(typed) != typed
}

/// The scheme and the path of an address that is in a file.
pub(crate) fn file_of(typed: &str) -> Option<(&str, &str)> {
    let schemes = FILES.iter().map(|(scheme, _)| *scheme).chain([SQLITE, STORE]);
    schemes.into_iter().find_map(|scheme| typed.strip_prefix(scheme).map(|file| (scheme, file)))
}

/// The address of a table in the database of this address.
pub(crate) fn with_table(database: &str, table: &str) -> String {
    match database.split_once('?').filter(|_| is_postgres(database)) {
        Some((database, options)) => format!("{database}/{table}?{options}"),
        None => format!("{database}/{table}"),
    }
}

/// Whether an address is that of a database of PostgreSQL, of which it names no table.
pub(crate) fn is_database(typed: &str) -> bool {
    is_postgres(typed) && table_of(typed).is_none()
}

/// The table that an address of PostgreSQL names.
pub(crate) fn table_of(typed: &str) -> Option<&str> {
    let bare = typed.split_once('?').map_or(typed, |(bare, _)| bare);
    let (_, rest) = bare.split_once("://").filter(|_| is_postgres(typed))?;
    rest.splitn(3, '/').nth(2).filter(|table| !table.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_table_is_told_the_same_however_its_path_is_typed() {
        let dir = tempfile::tempdir().expect("a directory");
        let real = dir.path().canonicalize().expect("it is there");
        std::fs::create_dir(dir.path().join("below")).expect("made");
        std::fs::write(dir.path().join("a.db"), "").expect("written");
        for typed in ["a.db/t", "./a.db/t", "below/../a.db/t", &format!("{}/a.db/t", dir.path().display())] {
            let typed = format!("sqlite:{typed}");
            assert_eq!(in_full(&typed, dir.path()), format!("sqlite:{}/a.db/t", real.display()), "{typed}");
        }
        assert_eq!(in_full("csv:a.db", dir.path()), format!("csv:{}/a.db", real.display()));
        assert_eq!(
            held(&format!("sqlite:{}/below/../a.db/*", dir.path().display())),
            format!("sqlite:{}/a.db", real.display())
        );
        let of_one =
            ["postgres://me@h/d/t", "postgresql://you:secret@h/d/public.t?sslmode=require", "postgres://h/d/t"];
        assert_eq!(of_one.map(held), ["postgres://h/d/t"; 3]);
        assert_eq!(held("postgres://me@h/d/*"), "postgres://h/d");
        // What is nowhere is told as it would be looked for.
        assert_eq!(in_full("csv:no/where.csv", Path::new("/x")), "csv:/x/no/where.csv");
        assert_eq!(in_full("postgres://me:secret@h/d/t", Path::new("/x")), "postgres://me@h/d/t");
    }
    #[test]
    fn what_is_wrong_with_an_address_is_told_without_its_password() {
        for typed in
            ["postgres://me:12?3secret@h/db", "postgres://me:a@secret@h/db/t", "postgres://me:secret@h:port/db/t"]
        {
            let error = admit(typed).expect_err("it is none");
            assert!(!error.message.contains("secret"), "{}", error.message);
        }
        for typed in ["postgres://me:p%40ss@h/db?sslrootcert=/etc/root@x.pem", "postgres://me@h/db/t?sslmode=require"] {
            admit(typed).expect("an address");
        }
    }
}
