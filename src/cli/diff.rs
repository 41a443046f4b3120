//! `rprof diff`: what changed between two sides, and whether it is more than chance.

use clap::Args;

use super::show;
use super::sides::{SIDE_HELP, SidesArgs};
use crate::encode::comparison;

/// Show what changed between two profiles, or two times of a directory
#[derive(Args, Debug, Clone)]
#[command(after_help = SIDE_HELP)]
pub struct DiffArgs {
    /// What is compared
    #[command(flatten)]
    pub sides: SidesArgs,
    /// Functions to show; 0 shows all
    #[arg(short = 'n', long, alias = "nodecount", default_value_t = 30)]
    pub limit: usize,
    /// All of it as JSON
    #[arg(long)]
    pub json: bool,
}

/// Compares, and shows the result.
///
/// # Errors
/// If a side means nothing, is empty or cannot be read, or the two do not fit together.
pub fn run(args: &DiffArgs) -> anyhow::Result<()> {
    let compared = args.sides.compare(None)?;
    let document = comparison::json(&compared.comparison, args.limit);
    show::print(&format!("{}\n", serde_json::to_string_pretty(&document)?))
}
