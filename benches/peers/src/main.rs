//! Measures Reknit and other set-reconcilers on the same sets, and writes what came out as tables and plots.

mod args;
mod case;
mod medians;
mod peer;
mod peers;
mod plot;
mod report;
mod tables;
mod workload;

use std::process::ExitCode;

fn main() -> ExitCode {
    match args::Args::parse(std::env::args().skip(1)).and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: args::Args) -> Result<(), String> {
    if let Some(case) = &args.case {
        let figures = case.measure(&args.date)?;
        println!("{}", serde_json::to_string(&figures).expect("plain data"));
        return Ok(());
    }
    let mut figures = report::load(&args.load)?;
    for case in args.cases() {
        let found = case.run(&args.date, &args.line)?;
        eprintln!("{}", report::line(&found));
        report::save(&args.save, &found)?;
        figures.push(found);
    }
    match &args.out {
        Some(folder) => report::write(folder, &figures),
        None => Ok(()),
    }
}
