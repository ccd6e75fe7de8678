//! What the operating system says of a process.

use crate::Result;
use crate::program::Program;

/// Ticks of processor time in a second, as Linux tells them to programs (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;

/// A process that is looked at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Process(u32);

impl Process {
    /// A daemon: the one child of the shell that ends it with us.
    pub(crate) fn of(daemon: &Program) -> Result<Self> {
        let shell = daemon.id().ok_or("the daemon has ended")?;
        let children = read(&format!("/proc/{shell}/task/{shell}/children"))?;
        let pid = children.split_whitespace().next().and_then(|pid| pid.parse().ok());
        pid.map(Self).ok_or_else(|| "the daemon has ended".to_owned())
    }

    /// Seconds of processor time so far, by all its threads.
    pub(crate) fn processor_time(self) -> Result<f64> {
        let stat = read(&format!("/proc/{}/stat", self.0))?;
        // Behind the name, which may hold anything: of proc(5), fields 14 and 15.
        let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        let ticks: Vec<u32> = fields.skip(11).take(2).filter_map(|it| it.parse().ok()).collect();
        Ok(f64::from(ticks.iter().sum::<u32>()) / TICKS_PER_SECOND)
    }

    /// Most memory that it has had at once, in MiB.
    pub(crate) fn memory_peak(self) -> Result<f64> {
        self.mebibytes("VmHWM:")
    }

    /// Memory that it has at the moment, in MiB.
    pub(crate) fn memory(self) -> Result<f64> {
        self.mebibytes("VmRSS:")
    }

    /// Descriptors that it has open.
    pub(crate) fn descriptors(self) -> Result<u32> {
        let folder = format!("/proc/{}/fd", self.0);
        let open = std::fs::read_dir(&folder).map_err(|error| format!("{folder}: {error}"))?;
        Ok(u32::try_from(open.count()).unwrap_or(u32::MAX))
    }

    fn mebibytes(self, name: &str) -> Result<f64> {
        let status = read(&format!("/proc/{}/status", self.0))?;
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kibibytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u32>().ok());
        kibibytes.map(|it| f64::from(it) / 1024.0).ok_or_else(|| format!("no {name}"))
    }
}

fn read(path: &str) -> Result<String> {
    std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))
}
