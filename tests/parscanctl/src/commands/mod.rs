//! The commands.

mod diagnosis;
mod doctor;
mod edges;
mod lines;
mod list;
mod port;
mod scanner;
mod transfer;

use std::time::Duration;

use parscan_client::{Limits, Port};

use crate::{
    Host,
    cli::{Cli, Command, Lines},
    complaint::{Complaint, Exit},
    render::Report,
};

/// Runs the command of a command line and prints what it found out.
pub(crate) fn run(cli: &Cli, host: &mut Host) -> Result<Exit, Complaint> {
    let report: Box<dyn Report> = match &cli.command {
        Command::List => Box::new(list::all(host)?),
        Command::Status(port) => Box::new(port::status(&open(host, port.port.as_deref(), None)?)?),
        Command::Init(port) => {
            Box::new(port::initialize(&open(host, port.port.as_deref(), None)?)?)
        }
        Command::Id { port, raw } => {
            Box::new(port::id(&open(host, port.port.as_deref(), None)?, *raw)?)
        }
        Command::Caps { port, exclude } => Box::new(port::caps(
            &open(host, port.port.as_deref(), None)?,
            exclude.unwrap_or(parscan_client::IeeeModes::empty()),
        )?),
        Command::Mode { port, read, write } => Box::new(port::mode(
            &open(host, port.port.as_deref(), None)?,
            *read,
            *write,
        )?),
        Command::Write {
            file,
            port,
            transfer,
        } => {
            let port = open(host, port.port.as_deref(), transfer.timeout)?;
            Box::new(transfer::write_port(host, &port, file, transfer)?)
        }
        Command::Read {
            out,
            bytes,
            port,
            transfer,
        } => {
            // The driver waits for data; it is told for how long.
            let port = open(host, port.port.as_deref(), None)?;
            let target = transfer::Target::new(out.as_deref(), *bytes, cli.json);
            transfer::read_port(host, &port, &target, transfer)?;
            return Ok(Exit::Done);
        }
        Command::Lines {
            port,
            count,
            command: None,
        } => {
            let port = open(host, port.port.as_deref(), None)?;
            lines::watch(host, &port, *count, cli.json)?;
            return Ok(Exit::Done);
        }
        Command::Lines {
            port,
            command: Some(Lines::Set { lines }),
            ..
        } => Box::new(lines::set(&open(host, port.port.as_deref(), None)?, lines)?),
        Command::Pulse { port, line, width } => Box::new(lines::pulse(
            &open(host, port.port.as_deref(), None)?,
            *line,
            *width,
        )?),
        Command::Run { port, file, out } => {
            let program = lines::load(host, file)?;
            let port = open(host, port.port.as_deref(), None)?;
            Box::new(lines::run(&port, &program, out.as_deref())?)
        }
        Command::WaitEdge {
            port,
            count,
            timeout,
        } => {
            let port = open(host, port.port.as_deref(), None)?;
            edges::wait(host, &port, *count, *timeout, cli.json)?;
            return Ok(Exit::Done);
        }
        Command::Scanner(command) => return scanner::run(command, cli.json, host),
        Command::Doctor => {
            let report = doctor::examine(host)?;
            host.print(cli.json, &report)?;
            return Ok(report.exit());
        }
    };
    host.print(cli.json, &*report)?;
    Ok(Exit::Done)
}

/// Opens a port. Ctrl-C ends its requests, and so does the time-out.
fn open(host: &Host, name: Option<&str>, timeout: Option<Duration>) -> Result<Port, Complaint> {
    let mut port = Port::open_on(host.system, name)?;
    port.set_limits(Limits {
        timeout,
        cancel: host.cancel.clone(),
    });
    Ok(port)
}
