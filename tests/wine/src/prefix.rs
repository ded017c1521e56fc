//! Prefixes: the folders that Wine takes for a Windows.

use std::{
    env,
    ffi::OsString,
    fs::{self, File},
    io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use crate::{machine::Server, process};

/// How long Wine may take to make a prefix.
const PATIENCE: Duration = Duration::from_secs(200);

/// Starts a program where its memory is always at the same addresses.
const FIXED: [&str; 3] = ["setarch", "x86_64", "--addr-no-randomize"];

/// Wine's programs.
pub(crate) struct Wine {
    /// What starts a program of Windows.
    loader: Vec<OsString>,
    server: PathBuf,
    pub(crate) version: String,
    /// Where the 32-bit half of its DLLs is, if it shall run 32-bit programs.
    x86: Option<PathBuf>,
}

impl Wine {
    /// Finds them: where Debian's package wine64 puts them, or in PATH.
    pub(crate) fn find(x86: Option<&Path>) -> Result<Self> {
        let debian = |name| PathBuf::from("/usr/lib/wine").join(name);
        let (loader, server) = if debian("wine64").exists() {
            (debian("wine64"), debian("wineserver64"))
        } else {
            (PathBuf::from("wine64"), PathBuf::from("wineserver"))
        };
        let output = Command::new(&loader)
            .arg("--version")
            .output()
            .context("cannot start wine64: `cargo xtask setup --all` installs it")?;
        // Newer kernels put the heap of one process in some thousands where Windows' shared data
        // must be (0x7FFE0000), and Wine then does not start. Containers may forbid the remedy.
        let [program, rest @ ..] = FIXED;
        let fixed = Command::new(program)
            .args(rest)
            .arg("true")
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success());
        let before = FIXED.iter().filter(|_| fixed).map(OsString::from);
        Ok(Self {
            loader: before.chain([loader.into()]).collect(),
            server,
            version: String::from_utf8_lossy(&output.stdout).trim().to_owned(),
            x86: x86.map(Path::canonicalize).transpose()?,
        })
    }

    /// A program of Windows in a prefix.
    pub(crate) fn program(&self, prefix: &Path) -> Command {
        let mut command = Command::new(&self.loader[0]);
        command.args(&self.loader[1..]);
        self.surround(&mut command, prefix);
        command
    }

    /// The server of a prefix.
    pub(crate) fn server(&self, prefix: &Path) -> Command {
        let mut command = Command::new(&self.server);
        self.surround(&mut command, prefix);
        command
    }

    /// Lets a program see its prefix, and nothing of who runs the tests: no display, no language.
    fn surround(&self, command: &mut Command, prefix: &Path) {
        command
            .env_clear()
            .envs(env::var_os("PATH").map(|path| ("PATH", path)))
            .envs(self.x86.as_ref().map(|folder| ("WINEDLLPATH", folder)))
            .env("HOME", prefix)
            .env("LC_ALL", "C")
            .env("TZ", "UTC")
            .env("WINEPREFIX", prefix)
            .env("WINEDEBUG", "-all")
            // No Mono, no Gecko, no debugger that asks.
            .env("WINEDLLOVERRIDES", "mscoree,mshtml,winedbg.exe=");
    }
}

/// Makes the prefix that the others are copies of.
pub(crate) fn template(wine: &Wine, work: &Path) -> Result<PathBuf> {
    let prefix = work.join("template");
    remove(&prefix)?;
    fs::create_dir(&prefix)?;
    let log = work.join("template.log");
    let server = Server::start(wine, &prefix)?;
    let mut boot = wine
        .program(&prefix)
        .args(["wineboot", "--init"])
        .stdin(Stdio::null())
        .stdout(File::create(&log)?)
        .stderr(File::create(&log)?)
        .spawn()
        .context("cannot start wineboot")?;
    let code = process::wait(&mut boot, PATIENCE)?;
    let left_over = server.stop()?;
    if code != Some(0) || !left_over.is_empty() {
        bail!(
            "Wine could not make a prefix, see {} (exit code {code:?}, left over: {left_over:?})",
            log.display()
        );
    }
    Ok(prefix)
}

/// Makes a prefix like the template. Files of Windows, which are not changed, are shared with it.
pub(crate) fn copy(template: &Path, prefix: &Path) -> Result<()> {
    remove(prefix)?;
    copy_folder(template, prefix, false)
        .with_context(|| format!("cannot copy {}", template.display()))
}

fn copy_folder(from: &Path, to: &Path, shared: bool) -> io::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (kind, source) = (entry.file_type()?, entry.path());
        let target = to.join(entry.file_name());
        if kind.is_dir() {
            copy_folder(&source, &target, shared || entry.file_name() == "windows")?;
        } else if kind.is_symlink() {
            symlink(fs::read_link(&source)?, &target)?;
        } else if shared {
            fs::hard_link(&source, &target)?;
        } else {
            fs::copy(&source, &target)?;
        }
    }
    Ok(())
}

/// Removes a folder if it is there.
pub(crate) fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}
