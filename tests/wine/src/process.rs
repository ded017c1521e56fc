//! Programs that end in time.

use std::{
    io::{self, Read},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

/// How often one looks whether a program has ended.
const LOOK: Duration = Duration::from_millis(5);

/// What a program has left.
pub(crate) struct Output {
    pub(crate) out: Vec<u8>,
    pub(crate) err: Vec<u8>,
    /// `None` if it did not end in time.
    pub(crate) code: Option<i32>,
}

/// A program that runs, with its output on the way.
pub(crate) struct Running {
    child: Child,
    out: thread::JoinHandle<io::Result<Vec<u8>>>,
    err: thread::JoinHandle<io::Result<Vec<u8>>>,
}

impl Running {
    /// Starts a program without standard input.
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {command:?}"))?;
        let out = child.stdout.take().context("no standard output")?;
        let err = child.stderr.take().context("no standard error")?;
        Ok(Self {
            child,
            out: collect(out),
            err: collect(err),
        })
    }

    /// Waits until the program has ended. One that takes longer is killed.
    pub(crate) fn wait(mut self, limit: Duration) -> Result<Output> {
        let code = wait(&mut self.child, limit)?;
        Ok(Output {
            out: finish(self.out)?,
            err: finish(self.err)?,
            code,
        })
    }
}

/// Waits until a program has ended, and gives its exit code. One that takes longer is killed.
pub(crate) fn wait(child: &mut Child, limit: Duration) -> Result<Option<i32>> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status.code().unwrap_or(-1)));
        }
        if start.elapsed() > limit {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(LOOK);
    }
}

fn collect(mut from: impl Read + Send + 'static) -> thread::JoinHandle<io::Result<Vec<u8>>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes)?;
        Ok(bytes)
    })
}

fn finish(thread: thread::JoinHandle<io::Result<Vec<u8>>>) -> Result<Vec<u8>> {
    match thread.join() {
        Ok(bytes) => Ok(bytes?),
        Err(_) => Ok(Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(script: &str, limit: Duration) -> Output {
        Running::start(Command::new("sh").args(["-c", script]))
            .unwrap()
            .wait(limit)
            .unwrap()
    }

    #[test]
    fn what_does_not_end_is_killed() {
        let output = run("exec sleep 1000", Duration::from_millis(300));
        assert_eq!(output.code, None);
    }

    #[test]
    fn streams_and_exit_code_are_told() {
        let output = run("echo out; echo err >&2; exit 7", Duration::from_mins(1));
        assert_eq!(output.code, Some(7));
        assert_eq!(
            (&output.out[..], &output.err[..]),
            (&b"out\n"[..], &b"err\n"[..])
        );
    }
}
