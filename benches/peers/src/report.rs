//! Figures to files and back, and one line for whoever watches.
use std::io::Write;

use crate::args::Args;
use crate::case::Figures;

pub fn load(files: &[String]) -> Result<Vec<Figures>, String> {
    let mut all = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(file).map_err(|error| format!("{file} cannot be read: {error}"))?;
        for (n, line) in text.lines().enumerate() {
            all.push(serde_json::from_str(line).map_err(|error| format!("{file}, line {}: {error}", n + 1))?);
        }
    }
    Ok(all)
}

pub fn save(file: &Option<String>, figures: &Figures) -> Result<(), String> {
    let Some(file) = file else { return Ok(()) };
    let line = serde_json::to_string(figures).expect("plain data") + "\n";
    let opened = std::fs::OpenOptions::new().create(true).append(true).open(file);
    let written = opened.and_then(|mut to| to.write_all(line.as_bytes()));
    written.map_err(|error| format!("{file} cannot be written: {error}"))
}

pub fn line(f: &Figures) -> String {
    format!("{:?}", f)
}

pub fn write(_: &str, _: &[Figures], _: &Args) -> Result<(), String> {
    Ok(())
}
