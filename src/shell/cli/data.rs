//! The options of `data`.

use clap::Subcommand;
use std::path::PathBuf;

/// Actions on datasets.
#[derive(Debug, Subcommand)]
pub enum DataAction {
    /// Download a split of a dataset, or what is missing of it; every file is verified. Reads the variables of `models get`.
    Get {
        /// The dataset on the Hugging Face hub.
        #[arg(value_name = "ORG/NAME[:CONFIG][:SPLIT][@REVISION]")]
        name: String,
        /// Put it together as this file, too.
        #[arg(long, value_name = "FILE")]
        to: Option<PathBuf>,
    },
}
