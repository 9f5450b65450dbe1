//! How databases are logged in to: passwords and encryption, from the configuration and from where libpq looks.
//!
//! What they mean to a connection is the adapter's; a password is never printed.

mod passfile;
mod password;

use std::path::PathBuf;

pub(crate) use self::password::{Password, Source};
use super::CliError;
use super::env::Env;
use crate::store::linked::{PostgresAddress, Secret};

/// An address with what is known beside it. The first that is there counts: a password in the address, one of the store in the
/// configuration that has the address, `PGPASSWORD`, libpq's file of passwords.
///
/// # Errors
/// What is wrong with the address, or `database.password` and `database.encryption`: where something should be, and is not.
pub(crate) fn address(env: &Env, typed: &str) -> Result<PostgresAddress, CliError> {
    let mut address = PostgresAddress::parse(typed)?;
    if let (None, Some(user)) = (address.user(), var("PGUSER")) {
        address.set_user(&user);
    }
    if !address.has_password()
        && let Some(password) = password(env, typed, &address)?
    {
        address.set_password(&password);
    }
    let mode = var("PGSSLMODE").map(|mode| mode.parse()).transpose();
    let mode = mode.map_err(|error| CliError::new("database.encryption", format!("PGSSLMODE: {error}")))?;
    let roots = var("PGSSLROOTCERT").map(PathBuf::from);
    let roots = roots.or_else(|| in_home(".postgresql/root.crt").filter(|file| file.exists()));
    address.set_encryption(mode, roots);
    Ok(address)
}

fn password(env: &Env, typed: &str, address: &PostgresAddress) -> Result<Option<Secret>, CliError> {
    if let Some(password) = env.config()?.password(typed) {
        return Ok(Some(password.get(env)?));
    }
    if let Some(password) = var("PGPASSWORD") {
        return Ok(Some(Secret::new(password)));
    }
    let Some(file) = var("PGPASSFILE").map(PathBuf::from).or_else(|| in_home(".pgpass")) else { return Ok(None) };
    let Some(text) = passfile::read(&file, &mut |warning| env.warn(warning)) else { return Ok(None) };
    let user = address.user().map(String::from).or_else(|| var("USER")).unwrap_or_default();
    let port = address.port().to_string();
    let fields = [&*address.host(), &*port, address.database(), &*user];
    Ok(passfile::find(&text, fields).map(Secret::new))
}

/// A variable that says something.
fn var(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn in_home(file: &str) -> Option<PathBuf> {
    var("HOME").map(|home| PathBuf::from(home).join(file))
}
