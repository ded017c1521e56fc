//! The workspace, child processes and messages.

use std::{
    env,
    ffi::{OsStr, OsString},
    fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anstyle::{AnsiColor, Style};
use anyhow::{Context, Result, bail};

/// The processors that the driver is built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Arch {
    /// Also known as AMD64 and `x86_64`.
    X64,
    /// Also known as `aarch64`.
    Arm64,
}

impl Arch {
    /// Both.
    pub(crate) const ALL: [Self; 2] = [Self::X64, Self::Arm64];

    /// The Rust target of drivers.
    pub(crate) const fn target(self) -> &'static str {
        match self {
            Self::X64 => TARGET,
            Self::Arm64 => "aarch64-pc-windows-msvc",
        }
    }

    /// As messages say it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::X64 => "x64",
            Self::Arm64 => "ARM64",
        }
    }

    /// As the decorations of an INF say it.
    pub(crate) const fn inf(self) -> &'static str {
        match self {
            Self::X64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// The folder of its libraries in Microsoft's kit.
    pub(crate) const fn kit(self) -> &'static str {
        self.name()
    }

    /// llvm-dlltool's name of it.
    pub(crate) const fn dlltool(self) -> &'static str {
        match self {
            Self::X64 => "i386:x86-64",
            Self::Arm64 => "arm64",
        }
    }

    /// The folder for what is made for it: `folder` itself for x64, one below it for others.
    pub(crate) fn below(self, folder: PathBuf) -> PathBuf {
        match self {
            Self::X64 => folder,
            Self::Arm64 => folder.join("arm64"),
        }
    }
}

/// The Rust target of the driver for x64.
pub(crate) const TARGET: &str = "x86_64-pc-windows-msvc";
/// The Rust target of programs for users, on hosts other than Windows.
pub(crate) const PROGRAM_TARGET: &str = "x86_64-pc-windows-gnu";
/// The same for 32-bit programs.
pub(crate) const PROGRAM_32_TARGET: &str = "i686-pc-windows-gnu";
/// The same for programs for ARM64.
pub(crate) const PROGRAM_ARM64_TARGET: &str = "aarch64-pc-windows-gnullvm";

/// The Rust target of the simulated machine with an ARM64 processor. Rust brings its linker and C
/// library.
pub(crate) const ARM64_HOST_TARGET: &str = "aarch64-unknown-linux-musl";

/// Where the project is.
pub(crate) struct Workspace {
    /// Folder of the root Cargo.toml.
    pub(crate) root: PathBuf,
}

impl Workspace {
    /// The workspace that this program was started from or, without cargo, built from.
    pub(crate) fn find() -> Result<Self> {
        let member = env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = member
            .ancestors()
            .nth(2)
            .context("the xtask package is expected in tests/xtask")?
            .to_path_buf();
        Ok(Self { root })
    }

    /// The one target folder for everything. wdk-build needs it inside the project: it looks for
    /// Cargo.lock above its output folder.
    pub(crate) fn target(&self) -> PathBuf {
        self.root.join("target")
    }

    /// cargo, run in the project with its target folder.
    pub(crate) fn cargo(&self) -> Command {
        let mut command = clean(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command
            .current_dir(&self.root)
            .env("CARGO_TARGET_DIR", self.target());
        command
    }

    /// cargo on this workspace, but without the workspace's own .cargo/config.toml, which may name
    /// folders that are not there yet. (cargo looks for it from the current folder upwards.)
    pub(crate) fn cargo_outside(&self, subcommand: &str) -> Command {
        let mut command = self.cargo();
        command
            .current_dir(self.root.parent().unwrap_or(&self.root))
            .arg(subcommand)
            .arg("--manifest-path")
            .arg(self.root.join("Cargo.toml"));
        command
    }
}

/// A command without the variables that `cargo run` set for this program only: build scripts that
/// watch them would run again.
pub(crate) fn clean(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if [
            "CARGO_PKG_",
            "CARGO_MANIFEST_",
            "CARGO_BIN_",
            "CARGO_CRATE_",
        ]
        .iter()
        .any(|prefix| text.starts_with(prefix))
        {
            command.env_remove(&name);
        }
    }
    command
}

/// The command as one would type it.
pub(crate) fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let program = program.file_name().unwrap_or(program.as_os_str());
    let mut line = program.to_string_lossy().into_owned();
    for arg in command.get_args() {
        line.push(' ');
        line.push_str(&arg.to_string_lossy());
    }
    line
}

/// Runs a command whose output goes to the terminal. Fails when it does.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let line = shown(command);
    let status = command
        .status()
        .with_context(|| format!("cannot start `{line}`"))?;
    if !status.success() {
        bail!("`{line}` failed ({status})");
    }
    Ok(())
}

/// Runs a command that checks something. False if it says by exit code 1 that this does not hold.
pub(crate) fn holds(command: &mut Command) -> Result<bool> {
    let line = shown(command);
    let status = command
        .status()
        .with_context(|| format!("cannot start `{line}`"))?;
    match status.code() {
        Some(0) => Ok(true),
        Some(1) => Ok(false),
        _ => bail!("`{line}` failed ({status})"),
    }
}

/// Runs a command and gives its standard output. Its errors go to the terminal.
pub(crate) fn read(command: &mut Command) -> Result<String> {
    let line = shown(command);
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start `{line}`"))?;
    if !output.status.success() {
        bail!("`{line}` failed ({})", output.status);
    }
    String::from_utf8(output.stdout).with_context(|| format!("output of `{line}`"))
}

/// Is there a program of this name in PATH?
pub(crate) fn in_path(program: &str) -> bool {
    env::var_os("PATH")
        .is_some_and(|path| env::split_paths(&path).any(|folder| folder.join(program).is_file()))
}

/// Writes a file if its content differs, so that an interrupted write leaves the old file and an
/// unchanged file keeps its time. True if written.
pub(crate) fn write_if_changed(path: &Path, content: &[u8]) -> Result<bool> {
    if fs::read(path).is_ok_and(|old| old == content) {
        return Ok(false);
    }
    let folder = path.parent().context("a file needs a folder")?;
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    fs::write(&temporary, content)
        .and_then(|()| fs::rename(&temporary, path))
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(true)
}

/// Removes a file, link or folder if it is there.
pub(crate) fn remove(path: &Path) -> Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(data) if data.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => Err(error),
    };
    removed.with_context(|| format!("cannot remove {}", path.display()))
}

/// Makes `to` hold the same files as `from`, except those whose name is in `leave_out`. Writes
/// only what differs.
pub(crate) fn mirror(from: &Path, to: &Path, below: &Path, leave_out: &[&str]) -> Result<()> {
    let entries = |root: &Path| -> Result<Vec<(OsString, bool)>> {
        let folder = root.join(below);
        let mut found = Vec::new();
        for entry in
            fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?
        {
            let entry = entry?;
            if !leave_out.iter().any(|name| entry.file_name() == *name) {
                found.push((entry.file_name(), entry.file_type()?.is_dir()));
            }
        }
        Ok(found)
    };
    fs::create_dir_all(to.join(below))?;
    let wanted = entries(from)?;
    for entry in entries(to)? {
        if !wanted.contains(&entry) {
            remove(&to.join(below).join(&entry.0))?;
        }
    }
    for (name, is_folder) in wanted {
        let path = below.join(name);
        if is_folder {
            mirror(from, to, &path, leave_out)?;
        } else {
            let source = from.join(&path);
            let content =
                fs::read(&source).with_context(|| format!("cannot read {}", source.display()))?;
            write_if_changed(&to.join(&path), &content)?;
        }
    }
    Ok(())
}

const BOLD: Style = Style::new().bold();
const GREEN: Style = AnsiColor::Green.on_default().bold();
const YELLOW: Style = AnsiColor::Yellow.on_default().bold();
const RED: Style = AnsiColor::Red.on_default().bold();

/// A plain line.
pub(crate) fn say(line: impl AsRef<str>) {
    anstream::println!("{}", line.as_ref());
}

/// The headline of a step.
pub(crate) fn headline(line: impl AsRef<str>) {
    anstream::println!("{BOLD}{}{BOLD:#}", line.as_ref());
}

/// A good result.
pub(crate) fn good(label: &str, rest: impl AsRef<str>) {
    anstream::println!("{GREEN}{label}{GREEN:#} {}", rest.as_ref());
}

/// Something to look at that does not stop the command.
pub(crate) fn warn(label: &str, rest: impl AsRef<str>) {
    anstream::println!("{YELLOW}{label}{YELLOW:#} {}", rest.as_ref());
}

/// A bad result.
pub(crate) fn bad(label: &str, rest: impl AsRef<str>) {
    anstream::println!("{RED}{label}{RED:#} {}", rest.as_ref());
}

/// The error that ends the program.
pub(crate) fn fail(line: impl AsRef<str>) {
    anstream::eprintln!("{RED}error{RED:#}: {}", line.as_ref());
}
