//! A Windows: made, used, and gone without a trace.

use std::{
    ffi::OsStr,
    fs::{self, File},
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    prefix::{self, Wine},
    process::{self, Running},
};

/// How long Wine may take to start or to end.
const PATIENCE: Duration = Duration::from_mins(1);
/// How long its processes may outlive the server.
const LINGER: Duration = Duration::from_secs(10);
/// How often one looks whether they have ended.
const LOOK: Duration = Duration::from_millis(20);

/// The server of a prefix, which everything in it talks to. Dropped, it ends with all of them.
pub(crate) struct Server<'a> {
    wine: &'a Wine,
    prefix: PathBuf,
    child: Child,
}

impl<'a> Server<'a> {
    /// Starts the server. It stays until it is stopped, whatever else ends.
    pub(crate) fn start(wine: &'a Wine, prefix: &Path) -> Result<Self> {
        let child = wine
            .server(prefix)
            .args(["--foreground", "--persistent"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start wineserver")?;
        Ok(Self {
            wine,
            prefix: prefix.to_path_buf(),
            child,
        })
    }

    /// Ends the server and everything in its prefix, and says what did not end by that.
    pub(crate) fn stop(mut self) -> Result<Vec<String>> {
        self.end()
    }

    fn end(&mut self) -> Result<Vec<String>> {
        let mut kill = self.wine.server(&self.prefix).arg("--kill").spawn()?;
        process::wait(&mut kill, PATIENCE)?;
        let ended = process::wait(&mut self.child, PATIENCE)?;
        let start = Instant::now();
        while !processes_of(&self.prefix).is_empty() && start.elapsed() < LINGER {
            thread::sleep(LOOK);
        }
        let mut names = clear(&self.prefix)?;
        if ended.is_none() {
            names.push("wineserver".to_owned());
        }
        Ok(names)
    }
}

impl Drop for Server<'_> {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            // What went wrong before is told elsewhere.
            let _ = self.end();
        }
    }
}

/// A process on this host.
struct Process {
    id: String,
    name: String,
}

/// The processes whose prefix is this folder or in it.
fn processes_of(folder: &Path) -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter(|entry| {
            // Those of other users cannot be read, and are not ours.
            fs::read(entry.path().join("environ")).is_ok_and(|environment| {
                environment
                    .split(|byte| *byte == 0)
                    .filter_map(|variable| variable.strip_prefix(b"WINEPREFIX="))
                    .any(|prefix| Path::new(OsStr::from_bytes(prefix)).starts_with(folder))
            })
        })
        .map(|entry| Process {
            id: entry.file_name().to_string_lossy().into_owned(),
            name: fs::read_to_string(entry.path().join("comm"))
                .unwrap_or_default()
                .trim()
                .to_owned(),
        })
        .collect()
}

/// Kills every process whose prefix is this folder or in it: what a run left that was itself
/// killed. Gives their names.
pub(crate) fn clear(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for process in processes_of(folder) {
        Command::new("kill")
            .args(["-KILL", &process.id])
            .status()
            .context("cannot start kill")?;
        names.push(process.name);
    }
    Ok(names)
}

/// A Windows that runs.
pub(crate) struct Machine<'a> {
    wine: &'a Wine,
    server: Server<'a>,
    prefix: PathBuf,
    log: PathBuf,
}

impl<'a> Machine<'a> {
    /// Makes a prefix like the template, and starts it.
    pub(crate) fn boot(wine: &'a Wine, template: &Path, prefix: &Path) -> Result<Self> {
        prefix::copy(template, prefix)?;
        let log = prefix.with_extension("log");
        let output = File::create(&log)?;
        let server = Server::start(wine, prefix)?;
        // Services and drivers inherit the streams of the first program, so theirs go to the log.
        let mut boot = wine
            .program(prefix)
            .args(["wineboot"])
            .env("WINEDEBUG", "-all,err+all,+debugstr")
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .context("cannot start wineboot")?;
        if process::wait(&mut boot, PATIENCE)? != Some(0) {
            bail!("Wine did not start, see {}", log.display());
        }
        Ok(Self {
            wine,
            server,
            prefix: prefix.to_path_buf(),
            log,
        })
    }

    /// A folder of drive C:.
    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        self.prefix.join("drive_c").join(name)
    }

    /// Starts a program of a folder of drive C:, which is its current folder.
    pub(crate) fn start(&self, folder: &str, program: &str, args: &[String]) -> Result<Running> {
        Running::start(
            self.wine
                .program(&self.prefix)
                .current_dir(self.folder(folder))
                .arg(program)
                .args(args),
        )
    }

    /// What Wine and the drivers have said until now.
    pub(crate) fn log(&self) -> Result<String> {
        let log = fs::read(&self.log)?;
        Ok(String::from_utf8_lossy(&log).into_owned())
    }

    /// Ends it. Gives the names of processes that did not end by that, and what Wine and the
    /// drivers said.
    pub(crate) fn shut_down(self) -> Result<(Vec<String>, String)> {
        let log = self.log()?;
        let left_over = self.server.stop()?;
        Ok((left_over, log))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lives_in_a_folder_is_found_and_ended() {
        let folder = std::env::temp_dir().join(format!("parscan-wine-{}", std::process::id()));
        let sleep = |prefix: &Path| {
            Command::new("sleep")
                .arg("1000")
                .env("WINEPREFIX", prefix)
                .spawn()
                .unwrap()
        };
        let mut ours = sleep(&folder.join("print"));
        let mut other = sleep(&folder.with_extension("other"));
        // It has its own environment once it is another program.
        while processes_of(&folder).is_empty() {
            thread::sleep(LOOK);
        }
        assert_eq!(clear(&folder).unwrap(), ["sleep"]);
        assert!(!ours.wait().unwrap().success());
        assert!(other.try_wait().unwrap().is_none(), "this one is not ours");
        other.kill().unwrap();
        other.wait().unwrap();
        assert_eq!(clear(&folder).unwrap(), Vec::<String>::new());
    }
}
