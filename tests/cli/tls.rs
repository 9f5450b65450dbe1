//! Encrypted connections to PostgreSQL, by a real server with a certificate of the test's own authority.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose};

use crate::harness::Place;
use crate::server::{Server, Setup};

/// Who is let in only encrypted, and who only otherwise.
const RULES: &str = "hostnossl all sealed 127.0.0.1/32 reject\nhostssl all plain 127.0.0.1/32 reject";
/// A table that notes whether whoever writes it is encrypted.
const TABLES: &str = "
    CREATE ROLE sealed LOGIN; CREATE ROLE plain LOGIN;
    CREATE TABLE a (id integer PRIMARY KEY, v text); INSERT INTO a VALUES (1, 'x'), (2, 'y');
    CREATE TABLE b (LIKE a INCLUDING ALL);
    CREATE TABLE noted (ssl boolean);
    CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS
        'BEGIN INSERT INTO noted SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid(); RETURN NEW; END';
    CREATE TRIGGER note AFTER INSERT ON b FOR EACH ROW EXECUTE FUNCTION note();
    GRANT SELECT ON a TO sealed, plain; GRANT SELECT, INSERT, UPDATE ON b TO sealed, plain";

/// An authority, and a server with a certificate of it for 127.0.0.1 alone.
fn sealed(place: &Place) -> Server {
    let authority = authority();
    let key = KeyPair::generate().expect("a key");
    let certificate = CertificateParams::new(vec!["127.0.0.1".into()]).expect("names");
    let certificate = certificate.signed_by(&key, &authority).expect("a certificate").pem();
    place.file("root.pem", authority.pem());
    place.file("other.pem", self::authority().pem());
    let certificate = Some((&*certificate, &*key.serialize_pem()));
    let server = Server::with(&Setup { listens: true, certificate, rules: RULES, ..Setup::default() });
    server.sql(TABLES);
    server
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority")
}

/// An address with options.
fn with(address: &str, options: &[&str]) -> String {
    format!("{address}?{}", options.join("&"))
}

#[test]
fn the_mode_says_whether_a_connection_is_encrypted_and_all_of_a_repair_are() {
    let mut place = Place::new();
    let server = sealed(&place);
    let table = |user, table, options: &[&str]| with(&server.listening(user, "127.0.0.1", table), options);
    let explain = |place: &Place, address: &str| place.run_args(&["explain", address]);
    for options in [&["sslmode=require"][..], &["sslmode=prefer"], &[]] {
        explain(&place, &table("sealed", "a", options)).ok();
    }
    let refused = explain(&place, &table("sealed", "a", &["sslmode=disable"])).fails("database");
    refused.says(&["no encryption"]);
    // Who is refused with encryption is let in without, unless it was asked for.
    explain(&place, &table("plain", "a", &[])).ok();
    explain(&place, &table("plain", "a", &["sslmode=require"])).fails("database").says(&["SSL encryption"]);
    place.vars = vec![("PGSSLMODE", "require".into())];
    explain(&place, &table("plain", "a", &[])).fails("database");
    explain(&place, &table("plain", "a", &["sslmode=prefer"])).ok();
    place.vars = vec![("PGSSLMODE", "allow".into())];
    explain(&place, &table("plain", "a", &[])).fails("database.encryption").says(&["PGSSLMODE", "verify-full"]);
    place.vars = Vec::new();
    explain(&place, &table("plain", "a", &["sslmode=allow"])).fails("database").says(&["`allow` is no sslmode"]);
    explain(&place, &table("plain", "a", &["sslcert=x"])).fails("database").says(&["sslmode and sslrootcert"]);
    // Every connection is encrypted, that which writes too.
    let (a, b) = (table("sealed", "a", &[]), table("sealed", "b", &["sslmode=require"]));
    place.run_args(&["repair", &a, &b, "--to", "b", "--apply"]).ok().says(&["2 to b", "?sslmode=require' 1"]);
    let noted = server.client().query_one("SELECT bool_and(ssl), count(*) FROM noted", &[]).expect("what was noted");
    assert_eq!((noted.get::<_, bool>(0), noted.get::<_, i64>(1)), (true, 2));
    // A socket of the file system is never encrypted, as in libpq.
    explain(&place, &with(&server.table("sealed", "a"), &["sslmode=verify-full"])).ok();
}

#[test]
fn a_server_is_believed_by_its_root_and_its_name() {
    let mut place = Place::new();
    let server = sealed(&place);
    let (right, wrong) = (format!("sslrootcert={}", place.path("root.pem").display()), "sslrootcert=other.pem");
    let at = |host| server.listening("sealed", host, "a");
    let explain = |place: &Place, host, options: &[&str]| place.run_args(&["explain", &with(&at(host), options)]);
    explain(&place, "127.0.0.1", &["sslmode=verify-full", &right]).ok();
    explain(&place, "127.0.0.1", &["sslmode=verify-ca", &right]).ok();
    explain(&place, "localhost", &["sslmode=verify-ca", &right]).ok();
    let other_name = explain(&place, "localhost", &["sslmode=verify-full", &right]).fails("database");
    other_name.says(&["is not for localhost", "sslmode=verify-ca"]);
    for mode in ["sslmode=verify-full", "sslmode=verify-ca", "sslmode=require"] {
        let ran = explain(&place, "127.0.0.1", &[mode, wrong]).fails("database");
        ran.says(&["signed by none of the roots in other.pem", "sslrootcert=FILE"]);
    }
    // Preferred alone, it is let be.
    let plain = server.listening("plain", "127.0.0.1", "a");
    place.run_args(&["explain", &with(&plain, &[wrong])]).ok();
    let none = explain(&place, "127.0.0.1", &["sslmode=verify-full", "sslrootcert=none.pem"]);
    none.fails("database").says(&["none.pem cannot be read"]);
    place.file("empty.pem", "");
    let empty = explain(&place, "127.0.0.1", &["sslmode=verify-full", "sslrootcert=empty.pem"]);
    empty.fails("database").says(&["no certificate in empty.pem"]);
    // Without a root, and with the one called system, what the operating system trusts counts.
    place.vars = vec![("SSL_CERT_FILE", place.path("root.pem").display().to_string())];
    explain(&place, "127.0.0.1", &["sslmode=verify-full"]).ok();
    explain(&place, "127.0.0.1", &["sslrootcert=system"]).ok();
    explain(&place, "localhost", &["sslrootcert=system"]).fails("database").says(&["is not for localhost"]);
    let weak = explain(&place, "127.0.0.1", &["sslrootcert=system", "sslmode=require"]);
    weak.fails("database").says(&["asks for sslmode=verify-full"]);
    place.vars = vec![("SSL_CERT_FILE", place.path("other.pem").display().to_string())];
    explain(&place, "127.0.0.1", &["sslmode=verify-full"]).fails("database").says(&["operating system's store"]);
    // What libpq takes from the environment and from the home of its user.
    place.vars.push(("PGSSLROOTCERT", place.path("root.pem").display().to_string()));
    place.vars.push(("PGSSLMODE", "verify-full".into()));
    explain(&place, "127.0.0.1", &[]).ok();
    explain(&place, "localhost", &[]).fails("database");
    std::fs::create_dir_all(place.path(".postgresql")).expect("a directory");
    std::fs::copy(place.path("root.pem"), place.path(".postgresql/root.crt")).expect("a copy");
    place.vars = vec![("HOME", place.path("").display().to_string()), ("PGSSLMODE", "verify-full".into())];
    explain(&place, "127.0.0.1", &[]).ok();
}

#[test]
fn a_server_that_does_not_encrypt_is_told_from_one_that_is_not_believed() {
    let (server, place) = (Server::with(&Setup { listens: true, ..Setup::default() }), Place::new());
    server.sql("CREATE TABLE a (id integer PRIMARY KEY)");
    let address = server.listening("reknit", "127.0.0.1", "a");
    place.run_args(&["explain", &address]).ok();
    for mode in ["require", "verify-full"] {
        let address = with(&address, &[&format!("sslmode={mode}"), "sslrootcert="]);
        let ran = place.run_args(&["explain", &address.replace("&sslrootcert=", "")]);
        ran.fails("database").says(&["does not encrypt connections", "sslmode=prefer"]);
    }
}
