//! The file in which libpq keeps passwords: a line each, `host:port:database:user:password`.
//!
//! Which file that is, and who is asked about, is for the caller.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Directories of sockets that libpq calls `localhost` in this file: its own default, and Debian's.
const LOCAL: [&str; 2] = ["/tmp", "/var/run/postgresql"];
/// Bytes of the file that are looked at.
const PASSFILE_BYTES_MAX: u64 = 1 << 20;

/// What is in the file; nothing, with a warning, where others may read it. One that is not there is no news.
pub(super) fn read(path: &Path, warn: &mut dyn FnMut(&str)) -> Option<String> {
    let shown = path.display();
    let found = std::fs::metadata(path).ok()?;
    if !found.is_file() || found.len() > PASSFILE_BYTES_MAX {
        warn(&format!("the file of passwords {shown} is not read: it is no plain file of at most 1 MiB"));
        return None;
    }
    if found.mode() & 0o077 != 0 {
        warn(&format!("the file of passwords {shown} is not read: others than its owner may; chmod 600 {shown}"));
        return None;
    }
    match std::fs::read(path) {
        Ok(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) => {
            warn(&format!("the file of passwords {shown} is not read: {error}"));
            None
        }
    }
}

/// The password of the first line that fits host, port, database and user.
pub(super) fn find(text: &str, mut fields: [&str; 4]) -> Option<String> {
    if LOCAL.contains(&fields[0]) {
        fields[0] = "localhost";
    }
    let fits = |line: &&str| !line.starts_with('#') && !line.is_empty();
    text.lines().filter(fits).find_map(|line| {
        let rest = fields.iter().try_fold(line, |line, field| after(line, field))?;
        Some(unescaped(rest).0)
    })
}

/// What follows a field, if it is this one, or any.
fn after<'l>(line: &'l str, field: &str) -> Option<&'l str> {
    if let Some(rest) = line.strip_prefix("*:") {
        return Some(rest);
    }
    let (found, rest) = unescaped(line);
    (found == field).then_some(rest?)
}

/// A field without its backslashes, and what follows its colon, if there is one.
fn unescaped(line: &str) -> (String, Option<&str>) {
    let mut field = String::new();
    let mut characters = line.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            ':' => return (field, Some(&line[at + 1..])),
            '\\' => field.push(characters.next().map_or('\\', |(_, escaped)| escaped)),
            other => field.push(other),
        }
    }
    (field, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_first_line_that_fits_counts() {
        let text = "# host:5432:db:me:comment\n\nother:5432:db:me:1\nhost:5433:db:me:2\nhost:5432:*:you:3\r\nhost:*:db:me:fo\\:u\\\\r:5\n\
                    *:*:*:*:any\nhost:5432:db:me:late\n";
        let find = |fields| find(text, fields).unwrap_or_default();
        assert_eq!(find(["other", "5432", "db", "me"]), "1");
        assert_eq!(find(["host", "5433", "db", "me"]), "2");
        assert_eq!(find(["host", "5432", "x", "you"]), "3");
        assert_eq!(find(["host", "5432", "db", "me"]), "fo:u\\r");
        assert_eq!(find(["Host", "5432", "db", "me"]), "any");
        assert_eq!(
            super::find("localhost:5432:db:me:x", ["/var/run/postgresql", "5432", "db", "me"]),
            Some("x".into())
        );
        assert_eq!(super::find("localhost:5432:db:me:x", ["/elsewhere", "5432", "db", "me"]), None);
        for text in [
            "",
            "host",
            "host:5432:db:me",
            "ho*:5432:db:me:x",
            "**:5432:db:me:x",
            " host:5432:db:me:x",
            "host:5432:db:mee:x",
        ] {
            assert_eq!(super::find(text, ["host", "5432", "db", "me"]), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_escaped_is_found(fields in prop::array::uniform5("[a-z:\\\\*#]{1,6}")) {
            let escaped = fields.clone().map(|field| field.replace('\\', "\\\\").replace(':', "\\:"));
            let [host, port, database, user, password] = &fields;
            let line = escaped.join(":");
            // Such a line is a comment, or begins with what fits all.
            prop_assume!(!line.starts_with('#') && fields.iter().all(|field| field != "*"));
            prop_assert_eq!(find(&line, [host, port, database, user]), Some(password.clone()));
            prop_assert_eq!(find(&line, [host, port, database, "other than that"]), None);
        }

        #[test]
        fn no_line_is_too_odd(text in "\\PC{0,40}") {
            let _ = find(&text, ["host", "5432", "db", "me"]);
        }
    }
}
