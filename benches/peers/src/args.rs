//! The command line.

use crate::case::Case;
use crate::peers;
use crate::workload::Shape;

/// What is said if the command line is not understood.
const USAGE: &str = "\
reknit-yardstick [--records N,…] [--differences D,…] [--shape S,…] [--seeds K] [--peers P,…]
                 [--load FILE]… [--save FILE] [--out DIR] --date YYYY-MM-DD

  --records      records in all; none: nothing is measured
  --differences  for the shapes scattered and tail; default 0,1,10,100,1000,10000
  --shape        scattered (default), clustered, tail, all-changed, one-empty
  --seeds        seeds 1 to K; default 1
  --peers        default: every one that was compiled in
  --load         figures measured before, to be shown with the new ones
  --save         append what is measured to this file
  --out          write performance.md (between its markers) and performance/*.svg here
  --date         the day that is told with the figures";

/// What to do.
#[derive(Debug, Default)]
pub struct Args {
    records: Vec<usize>,
    differences: Vec<usize>,
    shapes: Vec<Shape>,
    seeds: u64,
    peers: Vec<String>,
    /// Files of figures to show.
    pub load: Vec<String>,
    /// The file that figures are added to.
    pub save: Option<String>,
    /// Where to write tables and plots.
    pub out: Option<String>,
    /// The day that is told.
    pub date: String,
    /// One case, to be measured in this process.
    pub case: Option<Case>,
    /// The whole line, to be told with the figures.
    pub line: String,
}

impl Args {
    /// Reads the command line, without the name of the program.
    pub fn parse(words: impl Iterator<Item = String>) -> Result<Args, String> {
        let words: Vec<String> = words.collect();
        let every = peers::here().into_iter().map(|kind| kind.name.to_string()).collect();
        let mut args = Args {
            differences: vec![0, 1, 10, 100, 1000, 10_000],
            shapes: vec![Shape::Scattered],
            seeds: 1,
            peers: every,
            line: words.join(" "),
            ..Args::default()
        };
        for pair in words.chunks(2) {
            let [name, value] = pair else { return Err(format!("{} wants a value\n\n{USAGE}", pair[0])) };
            let bad = |what: &str| format!("{name} {value}: {what}\n\n{USAGE}");
            match name.as_str() {
                "--records" => args.records = numbers(value).ok_or_else(|| bad("not a list of numbers"))?,
                "--differences" => args.differences = numbers(value).ok_or_else(|| bad("not a list of numbers"))?,
                "--seeds" => args.seeds = value.parse().map_err(|_| bad("not a number"))?,
                "--shape" => {
                    let shapes = value.split(',').map(Shape::named).collect::<Option<_>>();
                    args.shapes = shapes.ok_or_else(|| bad("not a shape"))?;
                }
                "--peers" => {
                    args.peers = value.split(',').map(str::to_string).collect();
                    let known = |peer: &String| peers::here().iter().any(|kind| kind.name == peer);
                    if let Some(peer) = args.peers.iter().find(|peer| !known(peer)) {
                        return Err(bad(&format!("{peer} is not known or was not compiled in")));
                    }
                }
                "--load" => args.load.push(value.clone()),
                "--save" => args.save = Some(value.clone()),
                "--out" => args.out = Some(value.clone()),
                "--date" => args.date = value.clone(),
                "--case" => args.case = Some(serde_json::from_str(value).map_err(|_| bad("not a case"))?),
                _ => return Err(bad("not an option")),
            }
        }
        if args.date.is_empty() {
            return Err(format!("--date is wanted: figures without a day are worth nothing\n\n{USAGE}"));
        }
        Ok(args)
    }

    /// The cases to be measured, small sets first.
    pub fn cases(&self) -> Vec<Case> {
        let mut cases = Vec::new();
        for &records in &self.records {
            for &shape in &self.shapes {
                let chosen: &[usize] = if shape.takes_differences() { &self.differences } else { &[0] };
                for &differences in chosen.iter().filter(|d| **d <= records) {
                    for peer in &self.peers {
                        cases.extend((1..=self.seeds).map(|seed| {
                            let peer = peer.clone();
                            Case { peer, shape, records, differences, seed }
                        }));
                    }
                }
            }
        }
        cases
    }
}

fn numbers(list: &str) -> Option<Vec<usize>> {
    list.split(',').map(|number| number.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Args, String> {
        Args::parse(line.split_whitespace().map(str::to_string))
    }

    #[test]
    fn every_combination_is_a_case_and_shapes_without_a_choice_come_once() {
        let line = "--records 100,200 --differences 0,10,150 --shape scattered,clustered --seeds 2 --peers reknit,mst --date x";
        let cases = parse(line).expect("a good line").cases();
        // 100 records: two numbers of differences fit, 200: three; and one clustered case each.
        assert_eq!(cases.len(), (2 + 1 + 3 + 1) * 2 * 2);
    }

    #[test]
    fn what_is_not_understood_is_said() {
        for (line, why) in [
            ("--records many --date x", "not a list of numbers"),
            ("--shape round --date x", "not a shape"),
            ("--peers nobody --date x", "not known"),
            ("--wrong 1 --date x", "not an option"),
            ("--seeds", "wants a value"),
            ("--records 10", "--date is wanted"),
        ] {
            let said = parse(line).expect_err("a bad line");
            assert!(said.contains(why), "{said}");
        }
    }
}
