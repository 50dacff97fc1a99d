//! Programs: finding them, running them to the end, keeping them running.

use std::{
    env, fs,
    io::{BufRead, BufReader, Read},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

/// Where a program is. Missing, it is a failure in CI and elsewhere a loud skip (`None`).
pub fn component(name: &str, package: &str) -> Option<PathBuf> {
    let variable = format!("CIDERY_TEST_{}", name.to_uppercase().replace('-', "_"));
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::var_os(variable).map(PathBuf::from).or_else(|| {
        let sbin = ["/usr/sbin", "/sbin"].map(PathBuf::from);
        env::split_paths(&path).chain(sbin).map(|folder| folder.join(name)).find(|file| file.is_file())
    });
    if found.is_none() {
        assert!(env::var_os("CI").is_none(), "{name} is missing: install {package}");
        eprintln!("\n*** SKIPPED: {name} is missing; install {package} (or run tests/run) ***\n");
    }
    found
}

/// Whether this is root, without which some tests cannot set themselves up. As [`component`].
pub fn root() -> bool {
    let root = run(Command::new("id").arg("-u")).trim() == "0";
    if !root {
        assert!(env::var_os("CI").is_none(), "these tests need root");
        eprintln!("\n*** SKIPPED: needs root ***\n");
    }
    root
}

/// Runs to the end; panics with everything it said if it fails. Its standard output.
pub fn run(command: &mut Command) -> String {
    let output = output(command);
    assert!(output.status.success(), "{command:?}: {}\n{}", output.status, said(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs to the end; panics if it fails. Everything it said.
pub fn run_said(command: &mut Command) -> String {
    let output = output(command);
    assert!(output.status.success(), "{command:?}: {}\n{}", output.status, said(&output));
    said(&output)
}

/// Runs to the end; panics if it succeeds. Everything it said.
pub fn run_err(command: &mut Command) -> String {
    let output = output(command);
    assert!(!output.status.success(), "{command:?} should have failed, and said\n{}", said(&output));
    said(&output)
}

/// Runs `cidery`, which must refuse: the one line that it ends with, after whatever was in the log.
pub fn refusal(command: &mut Command) -> String {
    let mut daemon = Daemon::start(command);
    let status = wait_for("refusing", || daemon.child.try_wait().unwrap());
    let line = wait_for("a reason", || {
        let log = daemon.log();
        assert!(!log.contains("panicked"), "{log}");
        log.lines().last().filter(|line| line.starts_with("cidery: ")).map(str::to_owned)
    });
    assert!(!status.success(), "{status}: {line}");
    line
}

fn output(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

fn said(output: &Output) -> String {
    [&output.stdout[..], &output.stderr[..]].map(String::from_utf8_lossy).concat()
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Waits for `ready`, at most a minute.
pub fn wait_for<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    let (start, mut pause) = (Instant::now(), Duration::from_millis(1));
    loop {
        if let Some(value) = ready() {
            return value;
        }
        assert!(start.elapsed() < Duration::from_secs(60), "{what} took longer than a minute");
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// A program that runs until it is dropped; what it says is kept.
pub struct Daemon {
    child: Child,
    log: Arc<Mutex<String>>,
}

impl Daemon {
    /// Starts it.
    pub fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let log = Arc::new(Mutex::new(String::new()));
        keep(child.stdout.take().unwrap(), log.clone());
        keep(child.stderr.take().unwrap(), log.clone());
        Self { child, log }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it said so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Waits until it has said `text`.
    pub fn wait_for_line(&mut self, text: &str) {
        wait_for(&format!("{text:?} in the log"), || {
            if let Some(status) = self.exited() {
                panic!("ended with {status} before it said {text:?}:\n{}", self.log());
            }
            self.log().contains(text).then_some(())
        });
    }

    /// Asks it to stop (SIGTERM), and waits until it has.
    pub fn stop(&mut self) {
        if self.exited().is_none() {
            run(Command::new("kill").arg(self.id().to_string()));
            let log = self.log.clone();
            let child = &mut self.child;
            wait_for("stopping", || child.try_wait().unwrap().map(drop));
            drop(log);
        }
    }

    /// How it ended, if it has.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Ends it without warning (SIGKILL).
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Peak resident memory, in bytes; of it and its children now, if it has any. What they share
    /// counts for each.
    pub fn peak_memory(&self) -> u64 {
        let id = self.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
        let children = children.split_whitespace().filter_map(|child| child.parse().ok());
        peak_memory(id) + children.map(peak_memory).sum::<u64>()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- log of process {} ---\n{}", self.id(), self.log());
        }
        // A moment to leave in order (an engine unmounts), then for good.
        if self.child.try_wait().ok().flatten().is_none() {
            let _ = Command::new("kill").arg(self.id().to_string()).status();
            let start = Instant::now();
            while start.elapsed() < Duration::from_secs(10) {
                if self.child.try_wait().ok().flatten().is_some() {
                    return;
                }
                thread::sleep(Duration::from_millis(20));
            }
            self.kill();
        }
    }
}

fn keep(from: impl Read + Send + 'static, log: Arc<Mutex<String>>) {
    thread::spawn(move || {
        let mut from = BufReader::new(from);
        let mut line = Vec::new();
        while from.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            log.lock().unwrap().push_str(&String::from_utf8_lossy(&line));
            line.clear();
        }
    });
}

/// Peak resident memory of a process, in bytes.
pub fn peak_memory(id: u32) -> u64 {
    memory(id, "VmHWM")
}

/// A figure of a process's memory, in bytes, under the name that /proc has for it; 0 if there is none.
pub fn memory(id: u32, figure: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(figure)?.strip_prefix(':'));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or_default() * 1024
}

/// A directory's path as text: the tests' own are always UTF-8.
pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
