//! Figures to files and back; tables and plots to where they belong.
//!
//! What the tables and plots show is left to [`crate::tables`] and [`crate::plot`].

use std::fs;
use std::io::Write;
use std::path::Path;

use crate::case::Figures;
use crate::{medians, plot, tables};

const BEGIN: &str = "<!-- yardstick:begin -->";
const END: &str = "<!-- yardstick:end -->";
/// The file that holds the tables, and what it says if it is not there yet.
const FILE: &str = "performance.md";
const PREFACE: &str = "# Performance\n\n";
/// The folder of the plots, beside that file.
const PLOTS: &str = "performance";

/// Figures that were measured before.
pub fn load(files: &[String]) -> Result<Vec<Figures>, String> {
    let mut all = Vec::new();
    for file in files {
        let text = fs::read_to_string(file).map_err(|error| format!("{file} cannot be read: {error}"))?;
        for (n, line) in text.lines().enumerate() {
            all.push(serde_json::from_str(line).map_err(|error| format!("{file}, line {}: {error}", n + 1))?);
        }
    }
    Ok(all)
}

/// Appends figures to a file, if one was named.
pub fn save(file: &Option<String>, figures: &Figures) -> Result<(), String> {
    let Some(file) = file else { return Ok(()) };
    let line = serde_json::to_string(figures).expect("plain data") + "\n";
    let opened = fs::OpenOptions::new().create(true).append(true).open(file);
    let written = opened.and_then(|mut to| to.write_all(line.as_bytes()));
    written.map_err(|error| format!("{file} cannot be written: {error}"))
}

/// What is said of a case as soon as it is measured.
pub fn line(f: &Figures) -> String {
    let case = &f.case;
    let missed = if f.missed > 0 { format!(", {} MISSED", f.missed) } else { String::new() };
    format!(
        "{:16} {:11} n={:<9} d={:<7} seed {}: {} B, {} needless, {} flights, {:.3} ms{missed}",
        case.peer,
        case.shape.name(),
        case.records,
        f.differences,
        case.seed,
        f.metadata,
        f.needless,
        f.flights,
        f.warm_ms
    )
}

/// Writes tables and plots into a folder; what stands outside of the markers stays.
pub fn write(folder: &str, figures: &[Figures]) -> Result<(), String> {
    let folder = Path::new(folder);
    let failed = |path: &Path, error: std::io::Error| format!("{} cannot be written: {error}", path.display());
    let plots = folder.join(PLOTS);
    fs::create_dir_all(&plots).map_err(|error| failed(&plots, error))?;
    let rows = medians::rows(figures);
    for (name, svg) in plot::all(&rows) {
        let path = plots.join(name);
        fs::write(&path, svg).map_err(|error| failed(&path, error))?;
    }
    let path = folder.join(FILE);
    let before = fs::read_to_string(&path).unwrap_or_else(|_| PREFACE.into());
    let text = between(&before, &tables::markdown(&rows, figures));
    fs::write(&path, text).map_err(|error| failed(&path, error))
}

/// Puts a text between the markers, or at the end with markers if there are none.
fn between(whole: &str, text: &str) -> String {
    let marked = format!("{BEGIN}\n{text}{END}");
    match (whole.split_once(BEGIN), whole.split_once(END)) {
        (Some((before, _)), Some((_, after))) => format!("{before}{marked}{after}"),
        _ => format!("{whole}{marked}\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::medians::tests::figures;
    use crate::workload::Shape;

    #[test]
    fn what_stands_outside_of_the_markers_stays() {
        let once = between("# Title\n\n", "one\n");
        assert_eq!(once, format!("# Title\n\n{BEGIN}\none\n{END}\n"));
        let again = between(&format!("{once}\nby hand\n"), "two\n");
        assert_eq!(again, format!("# Title\n\n{BEGIN}\ntwo\n{END}\n\nby hand\n"));
    }

    #[test]
    fn figures_come_back_from_their_file() {
        let folder = std::env::temp_dir().join(format!("yardstick-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder of our own");
        let file = folder.join("figures.jsonl").display().to_string();
        let all = [figures("reknit", Shape::Tail, 8, 1, 77), figures("mst", Shape::Scattered, 0, 2, 32)];
        all.iter().for_each(|one| save(&Some(file.clone()), one).expect("the folder can be written"));
        assert_eq!(load(&[file]), Ok(all.to_vec()));
        fs::remove_dir_all(folder).expect("the folder is ours");
    }
}
