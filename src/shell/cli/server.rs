//! Options of commands that ask a server.

use crate::protocol::ServerOptions;
use clap::Args;

/// How servers are asked.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Servers")]
pub struct ServerArgs {
    /// The environment variable that holds the server's key; only its name is recorded. With several servers
    /// HOST:PORT=NAME, for each that needs one.
    #[arg(long = "key-env", value_name = "NAME")]
    pub key_envs: Vec<String>,
    /// Requests in flight at once, for each server.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = super::values::at_most(64))]
    pub in_flight: u64,
    /// The longest silence of a server in seconds.
    #[arg(long, value_name = "S", default_value_t = 120, value_parser = super::values::at_most(86_400))]
    pub timeout: u64,
    /// How often a failed request is repeated, after a pause that doubles each time.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(0..=20))]
    pub retries: u32,
}

impl ServerArgs {
    /// As the plan takes them.
    pub fn options(&self) -> ServerOptions {
        let (in_flight, timeout_s) = (self.in_flight as usize, self.timeout);
        ServerOptions { key_envs: self.key_envs.clone(), in_flight, timeout_s, retries: self.retries }
    }
}
