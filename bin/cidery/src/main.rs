//! cidery: an IPFS node with an OCI registry inside.
//!
//! This crate is the command line, the configuration and the wiring; the only one that reads
//! arguments, environment or configuration files, and the only one that names every other crate.
//!
//! - [`cli`]: what can be typed. [`settings`]: flags over environment over a TOML file, in one step.
//!   [`units`]: sizes and durations in them. [`listener`]: the part about the registry's listener.
//! - [`serve`]: the node: opens store, swarm and registry, joins them, runs until told to stop.
//! - [`control`]: the Unix socket between the commands and the running node.
//! - [`tls`]: the files of the listener's TLS, and their changes.
//! - [`allocator`]: how the C library keeps memory. [`limits`]: one of the system's.
//! - [`line`]: errors as they are printed.
//! - [`ops`]: what whoever runs the node sees of it.
//! - [`commands`]: everything else that can be typed; each talks to the node through [`control`].

mod allocator;
mod cli;
mod commands;
mod control;
mod limits;
mod line;
mod listener;
mod ops;
mod publisher;
mod serve;
mod settings;
mod tls;
mod units;

use std::process::ExitCode;

fn main() -> ExitCode {
    allocator::set_up();
    line::end_with_the_pipe();
    let cli = cli::Cli::read();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cidery: {}", line::one_line(&error));
            ExitCode::FAILURE
        }
    }
}

fn run(cli: cli::Cli) -> anyhow::Result<()> {
    let settings = settings::Settings::load(&cli.global)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = match cli.command {
        cli::Command::Serve(options) => {
            let settings = settings.serve(options)?;
            let access = ops::log::init(settings.access_log.as_ref())?;
            runtime.block_on(serve::run(settings, access))
        }
        command => runtime.block_on(commands::run(command, &settings)),
    };
    // Work that never ends by itself (a blocked read of a dead disk, say) must not hold the exit up.
    runtime.shutdown_timeout(std::time::Duration::from_secs(5));
    result
}
